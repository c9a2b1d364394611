"""Memory of a rank: model states against the ZeRO paper, activations against numbers worked out by hand, verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conf.estimate import Estimate, Moment, Need, Term
from conf.outcome import State
from conf.record import Plan
from launcher.facts.model import ModelFacts
from launcher.facts.slurm import SlurmFacts
from launcher.plan.memory.activations import CHUNK, Work, activations_of
from launcher.plan.memory.changes import changes_that_fit
from launcher.plan.memory.devices import gpu_memory, usable_gib
from launcher.plan.memory.held import Held
from launcher.plan.memory.host import host_capacity
from launcher.plan.memory.layers import Attention, stacks_of
from launcher.plan.memory.states import BACKWARD, IDLE, STEP, parts_of, total
from launcher.plan.memory.verdict import disk_warnings, memory_warnings, refusals
from launcher.plan.plan import make_plan
from launcher.problems import ConfigurationError
from launcher.send.proposal import Proposal, require_fit
from launcher.why.change import Case
from launcher.why.memory import predicted_memory, what_fits
from slurm.parse import Partition
from tests.unit.planned import FACTS, config_of, facts_of

GIGA = 10**9
ZERO = {"reduce_bucket_size": 0, "stage3_param_persistence_threshold": 0, "sub_group_size": GIGA, "overlap_comm": True}
MODEL_STATES = ("weights", "gradients", "optimizer")
PASSING = ("new gradients", "reduced gradients")
"""Gradients that are there for a part of the backward pass, beside those that are kept."""
LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
ON_H100 = ("model=hf", "model.model_name_or_path=/models/llama", "cluster=slurm", "cluster.gres=gpu:h100:8")


def states(stage: int, ranks: int, element: int = 2, held: Held | None = None, **zero: Any) -> tuple[float, float]:
    """Model states with gradients, in bytes a parameter, on the device and the host."""
    parts = parts_of(held or Held(element, (GIGA,)), {"stage": stage, **ZERO, **zero}, ranks)
    kept = [part for part in parts if part.kind in MODEL_STATES and part.name not in PASSING]
    return total(kept, BACKWARD, host=False) / GIGA, total(kept, BACKWARD, host=True) / GIGA


@pytest.mark.parametrize(
    ("stage", "ranks", "element", "expected"),
    [
        (0, 8, 2, 16.0),
        (1, 8, 2, 4 + 12 / 8),
        (2, 8, 2, 2 + 14 / 8),
        (3, 8, 2, 16 / 8),
        (0, 4, 4, 16.0),
        (1, 4, 4, 8 + 12 / 4),
        (2, 4, 4, 4 + 16 / 4),
        (3, 4, 4, 20 / 4),
    ],
)
def test_bytes_per_parameter(stage: int, ranks: int, element: int, expected: float) -> None:
    assert states(stage, ranks, element) == pytest.approx((expected, 0.0))


@pytest.mark.parametrize(
    ("stage", "offloaded", "device", "host"),
    [
        (2, ("offload_optimizer",), 2.0, (12 + 4 + 2) / 4),
        (3, ("offload_optimizer",), 2 / 4, (12 + 2 + 4) / 4),
        (3, ("offload_optimizer", "offload_param"), 0.0, (12 + 2 + 4 + 2) / 4),
    ],
    ids=["stage 2", "stage 3", "and weights"],
)
def test_offload_moves_states_to_the_host(stage: int, offloaded: tuple[str, ...], device: float, host: float) -> None:
    keys = {name: {"device": "cpu"} for name in offloaded}
    assert states(stage, 4, **keys) == pytest.approx((device, host), abs=1e-6)


def test_hpz_keeps_a_second_copy_of_the_weights() -> None:
    plain, second = states(3, 8)[0], states(3, 8, zero_hpz_partition_size=4)[0]
    assert second - plain == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("held", "stage", "expected"),
    [
        (Held(2, (GIGA // 10,), (GIGA * 9 // 10,)), 2, 2 + 0.1 * 14 / 8),
        (Held(2, (GIGA // 100,), (GIGA,)), 2, 2.02 + 0.01 * 14 / 8),
        (Held(2, (GIGA // 100,), (GIGA,)), 3, (2.02 + 0.01 * 14) / 8),
        (Held(2, (GIGA // 100,), (GIGA // 5,), 8 * GIGA // 10, 0.5625), 1, 0.42 + 0.45 + 0.02 + 0.01 * 12 / 8),
    ],
    ids=["upper layers", "adapter", "adapter sharded", "adapter over 4 bits"],
)
def test_what_is_frozen_has_weights_alone(held: Held, stage: int, expected: float) -> None:
    assert states(stage, 8, held=held)[0] == pytest.approx(expected)


def test_a_step_holds_gradients_in_fp32_and_buckets_do_not_outlive_the_backward_pass() -> None:
    parts = parts_of(Held(2, (GIGA,)), {"stage": 2, **ZERO, "reduce_bucket_size": 10**8}, 4)
    assert total(parts, STEP) - total(parts, IDLE) == pytest.approx((2 + 2 + 4) * GIGA / 4)
    buckets = [part for part in parts if part.name == "reduce buckets"]
    assert [part.size for part in buckets] == [2 * 2 * 10**8]
    assert not any(moment in buckets[0].moments for moment in (IDLE, STEP))


def test_activations_of_llama_8b_by_hand() -> None:
    """A layer and token: two norms 2 × (4 + 2) · 4096 + 16, their results 2 × 2 · 4096, queries and output the same,
    keys and values 2 × 2 · 1024, 4 · 32 for the sums of softmax, gate, activation, up and product 4 × 2 · 14336."""
    layer = 2 * 6 * 4096 + 16 + 4 * 4096 + 4 * 4096 + 4 * 1024 + 128 + 8 * 14336
    (stack,) = stacks_of(LLAMA_8B, 2, Attention.packed) or []
    assert stack.layers[0].token == layer
    work = Work(1, 4096, 4096, 4096, 128256, 2)
    found = activations_of([stack], work)
    assert found.kept == 4096 * (32 * layer + 4096 * (4 + 2 + 2))
    assert found.logits == 2 * 2 * 4096 * 128256 + 4 * CHUNK * 128256
    again = activations_of([stack], replace(work, checkpointing=True))
    assert again.kept == 4096 * 4096 * (32 * 2 + 4 + 2 + 2)
    assert again.kept_below == 4096 * 4096 * 2 * 31
    assert again.peak < found.peak / 5


def test_checkpointing_every_second_layer_lies_between() -> None:
    stacks = stacks_of(LLAMA_8B, 2, Attention.packed) or []
    work = Work(1, 4096, 4096, 4096, 128256, 2, checkpointing=True)
    kept = [activations_of(stacks, replace(work, interval=interval)).kept for interval in (1, 2, 4)]
    kept.append(activations_of(stacks, replace(work, checkpointing=False)).kept)
    assert kept == sorted(kept)
    assert kept[1] == pytest.approx((kept[0] + kept[3]) / 2, rel=0.01)


@pytest.mark.parametrize("kind", [Attention.eager, Attention.masked])
def test_scores_and_masks_grow_with_the_square_of_the_length(kind: Attention) -> None:
    stacks = stacks_of(LLAMA_8B, 2, kind) or []
    kept = [activations_of(stacks, Work(1, length, length, 1, 1, 2)).kept for length in (1024, 2048)]
    assert kept[1] > 2 * kept[0]


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1),
        ("NVIDIA H100 NVL", 93.1),
        ("NVIDIA A100-SXM4-80GB", 79.1),
        ("NVIDIA A100-PCIE-40GB", 39.4),
        ("h200", 139.8),
        ("a100", 39.4),
        ("Tesla V100-SXM2-32GB", 31.7),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.5),
        ("h100_3g.40gb", 38.0),
        ("1g.5gb", 4.8),
        ("a card nobody knows", None),
    ],
)
def test_memory_of_a_gpu_by_its_name(name: str, gib: float | None) -> None:
    assert usable_gib(name) == gib


MIXED = "gpu:h100:4(S:0-1),gpu:v100:4"


@pytest.mark.parametrize(
    ("gres", "overrides", "gib"),
    [
        (MIXED, ["cluster.gpus_per_node=4"], 15.8),
        (MIXED, ["cluster.gres=gpu:h100:4"], 79.1),
        (MIXED, ["cluster.gres=gpu:4", "cluster.constraint='h100&ib'"], 79.1),
        ("gpu:h100:4", ["cluster.gres=gpu:4"], 79.1),
        ("gpu:h100:8,gpu:h100_1g.10gb:56", ["cluster.gres=gpu:4"], 9.5),
        ("gpu:h100:8", ["cluster.gres=gpu:1g.10gb:1"], 9.5),
        ("gpu:h100:8,gpu:unheard:4", ["cluster.gres=gpu:4"], None),
    ],
)
def test_of_several_kinds_in_a_partition_the_smallest_counts(
    gres: str, overrides: list[str], gib: float | None
) -> None:
    facts = facts_of(slurm=SlurmFacts(partitions=(Partition("gpu", True, True, 8, 4, None, 64, 500_000, gres),)))
    found, source = gpu_memory(config_of("cluster=slurm", *overrides).cluster, facts)
    assert found == (None if gib is None else int(gib * (1 << 30)))
    assert ("smallest of h100, v100" in source) == (gib == 15.8)


@pytest.mark.parametrize("given", ["cluster.mem='0'", "cluster.exclusive=true"])
def test_nodes_that_differ_have_no_memory_that_is_known(given: str) -> None:
    def capacity(most: int | None) -> int | None:
        partition = Partition("gpu", True, True, 8, 4, None, 64, 500_000, "gpu:h100:8", 0, most)
        facts = facts_of(slurm=SlurmFacts(partitions=(partition,)))
        return host_capacity(config_of("cluster=slurm", given), facts)[0]

    assert capacity(0) == 500_000 << 20
    assert capacity(None) is None
    assert capacity(2_000_000) is None


def planned(*overrides: str) -> tuple[Plan, Any]:
    facts = facts_of(model=ModelFacts(folder="/models/llama", config=LLAMA_8B), free_bytes=10**13)
    config = config_of(*ON_H100, *overrides)
    return make_plan(config, facts), facts


def test_a_plan_says_the_peak_and_where_the_gpu_is_from() -> None:
    plan, _ = planned("cluster.nodes=2", "data.max_length=4096", "parallel=zero3", "train.gradient_checkpointing=true")
    need = plan.memory and plan.memory.device
    assert need is not None
    assert need.fits
    assert need.surely_fits
    assert need.capacity_from == "79.1 GiB of h100, cluster.gres"
    assert [moment.name for moment in need.moments] == ["load", "forward", "backward", "step"]
    assert need.low < need.peak.likely < need.high


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    plan, facts = planned("parallel=zero1", "data.max_length=8192", "train.per_device_train_batch_size=1")
    with pytest.raises(ConfigurationError) as error:
        require_fit(Proposal(plan, facts, {}))
    text = str(error.value)
    assert "refuses what does not fit" in text
    assert "of 79.1 GiB" in text
    assert "train.gradient_checkpointing=true" in text
    assert any(warning.startswith("does not fit") for warning in plan.warnings)
    for change in changes_that_fit(plan.config, facts):
        changed, _ = planned(
            "parallel=zero1", "data.max_length=8192", "train.per_device_train_batch_size=1", *change.overrides
        )
        need = changed.memory and changed.memory.device
        assert need is not None
        assert need.surely_fits
        assert need.peak.likely == change.likely


def test_a_person_may_know_better() -> None:
    plan, facts = planned("parallel=zero0", "data.max_length=8192", "cluster.memory_check=false")
    require_fit(Proposal(plan, facts, {}))
    assert any(warning.startswith("does not fit") for warning in plan.warnings)


def test_an_unknown_gpu_shows_the_need_alone() -> None:
    facts = facts_of(model=ModelFacts(folder="/models/llama", config=LLAMA_8B))
    plan = make_plan(
        config_of("model=hf", "model.model_name_or_path=/m", "cluster=slurm", "cluster.gpus_per_node=8"), facts
    )
    need = plan.memory and plan.memory.device
    assert need is not None
    assert need.capacity is None
    assert need.fits is None
    require_fit(Proposal(plan, facts, {}))


def need(likely: int, high: int, capacity: int | None) -> Need:
    return Need([Moment("step", [Term("weights", likely, likely, high)])], capacity, "here")


@pytest.mark.parametrize(
    ("device", "refused", "warned"),
    [
        (need(5, 6, 10), False, False),
        (need(8, 12, 10), False, True),
        (need(11, 12, 10), True, True),
        (need(11, 12, None), False, False),
    ],
    ids=["fits", "may not", "does not", "unknown"],
)
def test_verdicts(device: Need, refused: bool, warned: bool) -> None:
    estimate = Estimate(device, None, None)
    assert bool(refusals(estimate)) is refused
    assert bool(memory_warnings(estimate)) is warned


def test_more_of_anything_needs_more_memory() -> None:
    def peak(*overrides: str) -> int:
        found = planned("data.max_length=2048", "parallel=zero2", *overrides)[0].memory
        assert found is not None
        assert found.device is not None
        return found.device.peak.likely

    base = peak()
    assert peak("train.per_device_train_batch_size=4") > base
    assert peak("data.max_length=4096", "train.per_device_train_batch_size=2") > base
    assert peak("train.precision=fp32") > base
    assert peak("parallel.zero_stage=0") > base
    assert peak("parallel.zero_stage=3") < base
    assert peak("method=lora") < base


def test_facts_of_this_file_are_not_those_of_a_gpu() -> None:
    plan = make_plan(config_of(), FACTS)
    assert plan.memory is not None
    assert plan.memory.device is None
    assert plan.memory.host is not None
    assert plan.memory.host.capacity == 16 << 30


@pytest.mark.parametrize(
    ("free", "said"), [(10**15, None), (10**9, "disk is short"), (None, None)], ids=["enough", "short", "not known"]
)
def test_disk_is_compared_with_what_is_free_now(free: int | None, said: str | None) -> None:
    plan, _ = planned("parallel=zero3")
    assert plan.memory is not None
    found = disk_warnings(plan.memory, free)
    assert [said in text for text in found if said] == ([] if said is None else [True])


def test_what_is_free_on_the_disk_is_no_part_of_a_plan() -> None:
    config = config_of()
    assert make_plan(config, facts_of(free_bytes=1)) == make_plan(config, facts_of(free_bytes=2))


def test_advice_after_a_gpu_ran_full_fits_by_the_same_estimate(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    facts = facts_of(model=ModelFacts(folder=str(tmp_path), config=LLAMA_8B))
    words = (f"model.model_name_or_path={tmp_path}", "cluster=slurm", "cluster.gres=gpu:h100:8", "parallel=zero3")
    plan = make_plan(config_of("model=hf", *words, "data.max_length=8192"), facts)
    need = plan.memory and plan.memory.device
    assert need is not None
    short = (
        "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 79.11 GiB. "
        "78.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated."
    )
    case = Case(plan, None, State.failed, short)
    facts_said = [change.effect for change in predicted_memory(case)]
    assert f"{need.peak.name}: activations" in facts_said[0]
    assert any("78.0 GiB allocated" in fact and "9.0 GiB more asked for" in fact for fact in facts_said)
    changes = what_fits(case)
    assert 0 < len(changes) <= 3
    assert ("train.gradient_checkpointing", "false", "true") in {(one.key, one.now, one.to) for one in changes}
    assert all("a rank needs" in change.effect for change in changes)


def test_advice_without_a_known_model_is_the_usual_one() -> None:
    plan = make_plan(config_of("model=hf", "model.model_name_or_path=/nowhere"), FACTS)
    changes = what_fits(Case(plan, None, State.failed, "CUDA out of memory."))
    assert ("train.gradient_checkpointing", "true") in {(change.key, change.to) for change in changes}
