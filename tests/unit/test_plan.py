"""The plan: pure, order of overrides does not matter, everything derived is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conf.record import encode_plan, read_plan
from launcher.facts.facts import SlurmFacts
from launcher.facts.model import ModelFacts
from launcher.plan.plan import make_plan
from slurm.parse import Partition
from tests.unit.planned import FACTS, TINY, TRAIN, config_of, facts_of, plan_of

OVERRIDES = ["train.max_steps=7", "optim.learning_rate=1e-4", "cluster.ranks_per_node=2", "parallel=zero2"]


def test_same_plan_twice_and_in_any_order_of_overrides() -> None:
    plan = plan_of(*OVERRIDES)
    assert plan == plan_of(*OVERRIDES)
    assert encode_plan(plan) == encode_plan(plan_of(*reversed(OVERRIDES)))


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = plan_of(*OVERRIDES)
    path = tmp_path / "run.json"
    path.write_text(encode_plan(plan))
    assert read_plan(path) == plan


def test_names_of_the_outside_become_certain() -> None:
    plan = plan_of("data.cache_dir=cache", "cluster.python=env/bin/python", python="env/bin/python")
    config = plan.config
    assert config.run_root == "/scratch/ada/runs"
    assert config.data.train_file == "/data/train.jsonl"
    assert config.data.cache_dir == "/home/ada/project/cache"
    assert config.cluster.python == "/home/ada/project/env/bin/python"
    assert config.cluster.gpus_per_node == 0
    assert config.name == "random-llama-causal_lm-full"
    assert plan.run_dir == f"/scratch/ada/runs/{plan.run_id}"


def test_a_hub_name_becomes_its_snapshot() -> None:
    commit = "a" * 40
    model = ModelFacts(f"/cache/models--o--m/snapshots/{commit}", commit, TINY, 1000, "/cache/tokenizer")
    plan = plan_of("model=hf", "model.model_name_or_path=o/m", "model.tokenizer_name_or_path=o/t", model=model)
    assert plan.config.model.model_name_or_path == model.folder
    assert plan.config.model.revision == commit
    assert plan.config.model.tokenizer_name_or_path == "/cache/tokenizer"
    assert any(commit in note for note in plan.notes)


def test_free_keys_leave_the_id_alone() -> None:
    free = ["cluster.nodes=2", "tracking=none", "access=group", "data.prepare_workers=3"]
    assert plan_of("cluster=slurm", *free).run_id == plan_of().run_id
    assert plan_of("optim.learning_rate=1e-4").run_id != plan_of().run_id


@pytest.mark.parametrize(
    ("overrides", "model_type", "packing", "said"),
    [
        pytest.param([], "llama", "exact", "", id="proven"),
        pytest.param(["data.packing=dense"], "qwen3", "dense", "", id="dense"),
        pytest.param(["data.packing=none"], "llama", "none", "", id="off"),
        pytest.param([], "falcon", "none", "falcon is not among those proven", id="not proven"),
        pytest.param(["model.attn_implementation=sdpa"], "llama", "none", "is not Muster's attention", id="attention"),
    ],
)
def test_packing_falls_back_with_the_reason(overrides: list[str], model_type: str, packing: str, said: str) -> None:
    plan = plan_of(*overrides, model=ModelFacts(config={**TINY, "model_type": model_type}))
    assert plan.packing == packing
    becomes = [note for note in plan.notes if "becomes none" in note]
    assert (said in becomes[0]) if said else not becomes


@pytest.mark.parametrize(
    ("overrides", "rows", "steps"),
    [
        pytest.param(["train.max_steps=7"], 320, 7, id="max_steps wins"),
        pytest.param([], 320, 20, id="one epoch"),
        pytest.param(["train.num_train_epochs=2.5"], 321, 51, id="rounded up"),
        pytest.param(["data.validation_size=0.1"], 320, 18, id="share held out"),
        pytest.param(["data.validation_size=20"], 320, 19, id="rows held out"),
        pytest.param([], None, None, id="unknown rows"),
    ],
)
def test_expected_steps(overrides: list[str], rows: int | None, steps: int | None) -> None:
    plan = plan_of(*overrides, data_files={"data.train_file": replace(TRAIN, rows=rows)})
    assert plan.expected_steps == steps


def test_other_world_sizes_have_layouts_of_the_same_global_batch() -> None:
    plan = plan_of("cluster.ranks_per_node=2", "data.packing=none", "train.global_batch_size=12")
    assert sorted(plan.layouts) == [1, 2, 3, 4]
    assert {size: layout.batch.accumulation for size, layout in plan.layouts.items()} == {1: 2, 2: 1, 3: 1, 4: 1}
    for layout in plan.layouts.values():
        batch = layout.batch
        assert batch.micro_batch_size * batch.accumulation * batch.world_size == 12
        assert layout.deepspeed["train_micro_batch_size_per_gpu"] == batch.micro_batch_size
    assert plan.layout is plan.layouts[2]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        pytest.param(["parallel=zero0", "train.precision=bf16"], "drift", id="bf16 without ZeRO"),
        pytest.param(["cluster=slurm"], "cluster.time is null", id="no time limit"),
        pytest.param(["cluster.ranks_per_node=12"], "expected useful share of rank time 0.67", id="few documents"),
        pytest.param(
            ["cluster=slurm", "cluster.gpus_per_node=8"], "cluster.cpus_per_task=null: 8 ranks of a node", id="one core"
        ),
        pytest.param(
            ["cluster=slurm", "cluster.gpus_per_node=8", "cluster.cpus_per_task=4"], "share 4 cores", id="few cores"
        ),
        pytest.param(["schedule.warmup_steps=100"], "warmup_steps=100 is more than the about 18", id="warm-up"),
        pytest.param(["data.validation_size=0.1"], None, id="nothing to warn of"),
    ],
)
def test_warnings(overrides: list[str], said: str | None) -> None:
    warnings = plan_of("train.precision=fp32", "data.validation_size=0.1", *overrides).warnings
    if said is None:
        assert warnings == []
    else:
        assert sum(said in warning for warning in warnings) == 1


@pytest.mark.parametrize(
    ("export", "parameters", "at_end"),
    [
        ("auto", 10**9, True),
        ("auto", 8 * 10**9, False),
        ("end", 8 * 10**9, True),
        ("job", 10, False),
        ("never", 10, False),
    ],
)
def test_export_decision(export: str, parameters: int, at_end: bool) -> None:
    model = ModelFacts(config={"model_type": "unheard_of", "dtype": "bfloat16"}, weights_bytes=2 * parameters)
    plan = plan_of(f"checkpoint.export={export}", "model.shape={}", "model.tokenizer_name_or_path=null", model=model)
    assert plan.parameters == parameters
    assert plan.export_at_end == at_end
    assert any(note.startswith("export ") for note in plan.notes)


@pytest.mark.parametrize(
    ("overrides", "gpus", "expected"),
    [
        pytest.param(["cluster=local"], (), (1, 1, "cpu", "fork", 4), id="this machine's cores"),
        pytest.param(["cluster=local"], ("H200",) * 2, (1, 2, "gpu", "exec", 2), id="this machine's GPUs"),
        pytest.param(["cluster=local", "cluster.gpus_per_node=0"], ("H200",), (1, 1, "cpu", "fork", 4), id="CPU asked"),
        pytest.param(
            ["cluster=slurm", "cluster.nodes=3", "cluster.gpus_per_node=4", "cluster.cpus_per_task=96"],
            (),
            (3, 4, "gpu", "exec", 8),
            id="threads capped",
        ),
        pytest.param(["cluster=slurm", "cluster.gres='gpu:h100:8'"], (), (1, 8, "gpu", "exec", 1), id="GPUs of gres"),
        pytest.param(
            ["cluster=slurm", "cluster.exclusive=true", "cluster.ranks_per_node=2"],
            (),
            (1, 2, "cpu", "fork", 32),
            id="exclusive nodes",
        ),
    ],
)
def test_topology(overrides: list[str], gpus: tuple[str, ...], expected: tuple[int, int, str, str, int]) -> None:
    partition = Partition("main", True, True, 8, None, None, 64, 1000, "")
    plan = plan_of(*overrides, gpus=gpus, slurm=SlurmFacts(partitions=(partition,)))
    found = plan.topology
    assert (found.nodes, found.ranks_per_node, found.device.value, found.start, found.threads_per_rank) == expected


def test_an_impossible_batch_is_an_error_of_its_own() -> None:
    config = config_of("data.packing=none", "train.global_batch_size=15", "cluster.ranks_per_node=2")
    with pytest.raises(ValueError, match="15 is not a multiple of 2 ranks"):
        make_plan(config, facts_of())


def test_facts_stay_as_they_were() -> None:
    before = repr(FACTS)
    plan_of(*OVERRIDES)
    assert repr(FACTS) == before
