"""DeepSpeed's JSON: what is written for each preset, the person's keys over it."""

from __future__ import annotations

import pytest

from conf.record import Batch, Device, Topology
from launcher.plan import zero
from launcher.plan.content import flatten
from tests.unit.planned import config_of, plan_of

PRESETS = ("zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload", "zero3_hpz")


def test_zero3_in_bf16_is_written_out_in_full() -> None:
    plan = plan_of("parallel=zero3", "cluster.ranks_per_node=2", "train.precision=bf16", "data.max_length=1024")
    assert plan.layout.deepspeed == {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "reduce_bucket_size": 16777216,
            "allgather_bucket_size": 16777216,
            "stage3_prefetch_bucket_size": 943718,
            "stage3_param_persistence_threshold": 1280,
            "stage3_max_live_parameters": 1000000000,
            "stage3_max_reuse_distance": 1000000000,
            "sub_group_size": 1000000000,
            "stage3_gather_16bit_weights_on_model_save": True,
            "zero_hpz_partition_size": 1,
        },
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True, "check_grad_overflow": False},
        "fp16": {"enabled": False},
        "torch_autocast": {"enabled": False},
        "steps_per_print": 1073741824,
        "wall_clock_breakdown": False,
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_preset_is_explicit(preset: str, precision: str) -> None:
    layouts = plan_of(f"parallel={preset}", f"train.precision={precision}").layouts
    assert len(layouts) >= 2
    for layout in layouts.values():
        written = layout.deepspeed
        assert not zero.auto_keys(written)
        assert written["gradient_accumulation_steps"] == 1
        assert "train_batch_size" not in written
        offloads = "offload_optimizer" in written["zero_optimization"]
        assert offloads == preset.endswith("offload")
        assert ("zero_force_ds_cpu_optimizer" in written) == offloads


@pytest.mark.parametrize(
    ("hidden_size", "expected"), [(128, 1 << 24), (4096, 1 << 24), (8192, 8192**2)], ids=["floor", "equal", "large"]
)
def test_buckets_follow_the_hidden_size(hidden_size: int, expected: int) -> None:
    assert zero.bucket_elements(hidden_size) == expected


@pytest.mark.parametrize(
    ("given", "world_size", "expected"),
    [(1, 8, 1), (4, 8, 4), (0, 8, 4), (0, 2, 2), (4, 6, 1)],
    ids=["off", "given", "a node's ranks", "fewer ranks", "does not divide"],
)
def test_hpz_size(given: int, world_size: int, expected: int) -> None:
    topology = Topology(2, 4, Device.gpu, "exec", 8)
    assert zero.hpz_size(given, topology, world_size) == expected


def test_raw_keys_lie_over_ours_and_the_difference_is_said() -> None:
    overrides = (
        "+parallel.deepspeed.zero_optimization.reduce_bucket_size=5",
        "+parallel.deepspeed.comms_logger.enabled=true",
    )
    plan = plan_of(*overrides)
    assert plan.layout.deepspeed["zero_optimization"]["reduce_bucket_size"] == 5
    assert plan.layout.deepspeed["zero_optimization"]["stage"] == 3
    assert plan.layout.deepspeed["comms_logger"] == {"enabled": True}
    said = [note for note in plan.notes if note.startswith("parallel.deepspeed")]
    assert said == [
        "parallel.deepspeed: comms_logger.enabled: (not given) → True",
        "parallel.deepspeed: zero_optimization.reduce_bucket_size: 16777216 → 5",
    ]


def test_merging_changes_neither_side() -> None:
    written = {"a": {"b": 1, "c": 2}}
    over = {"a": {"b": 3}}
    assert zero.merged(written, over) == {"a": {"b": 3, "c": 2}}
    assert (written, over) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})


def test_fp16_scales_its_loss_by_itself() -> None:
    config = config_of("train.precision=fp16")
    written = flatten(zero.own_json(config, Topology(1, 1, Device.gpu, "exec", 1), Batch(1, 16, 8, 2), 128))
    assert written["fp16.enabled"] is True
    assert written["fp16.loss_scale"] == 0
    assert written["bf16.enabled"] is False
