"""The estimate of time: operations as the ranks count them, ZeRO's volumes, the whole run, its price."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conf.forecast import Correction, Forecast
from conf.gpus import gpu_by_name, name_of
from conf.schema import RunConfig
from launcher.facts.model import ModelFacts
from launcher.facts.speed import MeasuredSave
from launcher.plan.memory.estimate import Subject
from launcher.plan.plan import make_plan, resolve_packing, subject_of
from launcher.plan.resolve import resolved
from launcher.plan.time.around import EXPORT, READ, SAVE, START
from launcher.plan.time.cost import cost_of
from launcher.plan.time.documents import Documents
from launcher.plan.time.forecast import forecast_of, way_of
from launcher.plan.time.machine import machine_of
from launcher.plan.time.step import GRADES, Way, communication_s, seconds_of
from launcher.plan.topology import make_topology
from launcher.show import time_page
from tests.unit.planned import TRAIN, config_of, facts_of
from train.methods.adapter import add_adapter
from train.model.flops import operations_per_token

LLAMA = {"model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4}
LLAMA |= {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096, "head_dim": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "tied": LLAMA | {"tie_word_embeddings": True},
    "qwen2": LLAMA | {"model_type": "qwen2"},
    "gemma2": LLAMA | {"model_type": "gemma2"},
    "mixtral": LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"model_type": "gpt2", "n_embd": 256, "n_layer": 3, "n_head": 4, "vocab_size": 1000},
    "gpt_neox": LLAMA | {"model_type": "gpt_neox"},
}
BIG = LLAMA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
BIG |= {"head_dim": 128, "num_key_value_heads": 8, "vocab_size": 128256}
LONG = replace(TRAIN, lengths=tuple(range(400, 16000, 100)))
GPUS = ("cluster=slurm", "cluster.gres=gpu:h100:8", "train.precision=bf16", "data.max_length=4096")


def subject(shape: dict[str, Any], *overrides: str) -> Subject:
    """The subject of a configuration of a model that is given by its shape."""
    facts = facts_of(model=ModelFacts(config=shape))
    config = resolved(config_of(*overrides), facts)
    topology, _ = make_topology(config.cluster, facts)
    return subject_of(config, facts, topology, resolve_packing(config, str(shape["model_type"]))[0])


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "full") for name in SHAPES), *((name, "lora") for name in SHAPES if name != "mixtral")],
)
def test_operations_are_those_that_the_ranks_count(name: str, method: str) -> None:
    shape = SHAPES[name]
    found = subject(shape, f"method={method}")
    kind = {key: value for key, value in shape.items() if key != "model_type"}
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(str(shape["model_type"]), **kind))
        if method == "lora":
            model = add_adapter(model, found.config.method.peft, found.config.task.name, 1)
    cost = cost_of(found)
    assert cost is not None
    assert cost.operations(1.0, 300.0) == pytest.approx(operations_per_token(model, model.config, 300.0), rel=1e-6)


def way(stage: int, **more: Any) -> Way:
    return Way(stage=stage, ranks=16, per_node=8, element=2, **more)


def test_volumes_are_those_of_the_paper() -> None:
    """Stages 1 and 2 move 2Ψ, stage 3 3Ψ; a second micro batch moves Ψ more in stage 2 and 3Ψ in stage 3."""
    one = subject(LLAMA, *GPUS, "cluster.nodes=2")
    cost = cost_of(one)
    assert cost is not None
    big = replace(cost, weights=10**10, trained=10**10)
    machine = machine_of(one.config, facts_of(), one.topology)
    grade = GRADES[machine.device][1]
    psi = communication_s(big, machine, way(1), 1, grade) / 2

    def volume(stage: int, micro_batches: int, **more: Any) -> float:
        return communication_s(big, machine, way(stage, **more), micro_batches, grade) / psi

    assert volume(1, 4) == pytest.approx(2, rel=0.01)
    assert volume(2, 1) == pytest.approx(2, rel=0.01)
    assert volume(2, 2) == pytest.approx(3, rel=0.01)
    assert volume(3, 1) == pytest.approx(3, rel=0.02)
    assert volume(3, 2) == pytest.approx(6, rel=0.02)
    assert 2 < volume(3, 1, group=8) < 3
    assert communication_s(big, machine, replace(way(3), ranks=1), 1, grade) == 0


def forecast(*overrides: str, correction: Correction | None = None, **changes: Any) -> Forecast:
    facts = facts_of(model=ModelFacts(config=BIG), data_files={LONG.key: LONG}, **changes)
    config: RunConfig = resolved(config_of(*overrides), facts)
    topology, _ = make_topology(config.cluster, facts)
    packing = resolve_packing(config, str(facts.model.config["model_type"]))[0]
    found = forecast_of(subject_of(config, facts, topology, packing), facts, correction)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), ("train.gradient_checkpointing=true",)),
        ((), ("parallel=zero3_offload",)),
        (("parallel=zero2",), ("parallel=zero2_offload",)),
        (("cluster.inter_node_gbps=400", "cluster.nodes=2"), ("cluster.inter_node_gbps=10", "cluster.nodes=2")),
        ((), ("cluster.gpu_tflops=100",)),
        (("data.max_length=64",), ("data.max_length=4096", "data.packing=none")),
    ],
    ids=["checkpointing", "offload", "offload2", "links", "gpu", "longer"],
)
def test_what_costs_time(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    assert forecast(*GPUS, *after).step.likely > forecast(*GPUS, *before).step.likely


def test_parts_add_up_to_the_step_and_the_band_holds_it() -> None:
    for overrides in (GPUS, (*GPUS, "cluster.nodes=2", "parallel=zero2_offload"), ("cluster.ranks_per_node=2",)):
        found = forecast(*overrides)
        assert sum(part.seconds for part in found.parts) == pytest.approx(found.step.likely)
        assert found.step.low < found.step.likely < found.step.high


def test_the_run_its_jobs_and_its_price() -> None:
    found = forecast(*GPUS, "cluster.gpu_hour_rate=2.5", "cluster.currency=EUR", "train.max_steps=100000")
    hours, price = found.device_hours, found.price
    assert found.run is not None
    assert hours is not None
    assert price is not None
    assert hours.likely == pytest.approx(8 * found.run.likely / 3600)
    assert price.likely == pytest.approx(2.5 * hours.likely)
    assert f"{time_page.amount(price.likely)} (" in time_page.title(found)
    assert time_page.title(found).endswith("EUR")
    limited = forecast(*GPUS, "train.max_steps=1000000", "cluster.time='01:00:00'")
    assert limited.run is not None
    assert limited.jobs is not None
    assert limited.jobs >= limited.run.likely / 3600
    assert forecast(*GPUS, "train.max_steps=1", "cluster.time='01:00:00'").jobs == 1


def test_measured_runs_correct_and_narrow() -> None:
    plain = forecast(*GPUS)
    found = forecast(*GPUS, correction=Correction(2.0, 3, "same GPU"))
    assert found.step.likely == pytest.approx(2 * plain.step.likely)
    assert found.formula_step_s == pytest.approx(plain.step.likely)
    assert found.step.high / found.step.low < plain.step.high / plain.step.low
    assert "corrected by 3 runs on this site: ×2.00" in "\n".join(time_page.lines(found))


def test_a_plan_has_its_time_and_no_more_than_it_may_cost() -> None:
    facts = facts_of()
    plan = make_plan(config_of(*GPUS), facts)
    assert plan.time is not None
    assert (plan.time.kind, plan.time.devices) == ("GPU", 8)
    assert plan.time.mfu is not None
    assert 0 < plan.time.mfu < 1
    cpu = make_plan(config_of(), facts)
    assert cpu.time is not None
    assert (cpu.time.kind, cpu.time.mfu) == ("node", None)


def test_larger_micro_batches_are_no_slower() -> None:
    one = subject(LLAMA, *GPUS, "data.packing=none", "train.global_batch_size=64")
    cost, facts = cost_of(one), facts_of()
    assert cost is not None
    machine, documents = machine_of(one.config, facts, one.topology), Documents(one.config, facts)
    grade = GRADES[machine.device][1]
    found = []
    for micro in (1, 2, 4, 8):
        step = documents.step(replace(one.batch, micro_batch_size=micro, accumulation=8 // micro), False)
        found.append(seconds_of(cost, machine, way_of(one), step, grade).total)
    assert found == sorted(found, reverse=True)


def test_what_lies_around_the_steps_is_counted() -> None:
    """The weights are read, the last checkpoint written, the model exported; at the speed that was measured."""
    words = (*GPUS, "model.init=pretrained", "model.tokenizer_name_or_path=null", "checkpoint.export=end")
    found = forecast(*words)
    assert found.run is not None
    besides = {part.name: part.seconds for part in found.around}
    assert set(besides) == {START, READ, SAVE, EXPORT}
    assert found.run.likely > sum(besides.values())
    measured = forecast(*words, saves=(MeasuredSave("other", 10**12, 100.0),))
    faster = {part.name: part.seconds for part in measured.around}
    assert faster == pytest.approx({name: each / (1 if name == START else 10) for name, each in besides.items()})
    lines = "\n".join(time_page.lines(found))
    assert all(name in lines for name in besides)
    assert {part.name for part in forecast(*GPUS).around} == {START, SAVE}


def test_an_instance_of_a_gpu_has_its_share_alone() -> None:
    whole, part = gpu_by_name("NVIDIA H100 80GB HBM3"), gpu_by_name("NVIDIA H100 80GB HBM3 MIG 2g.20gb")
    assert whole is not None
    assert part is not None
    assert part.operations == pytest.approx(whole.operations * 2 / 7)
    assert part.peers <= whole.host
    assert name_of("h100_2g.20gb") == name_of("NVIDIA H100 80GB HBM3 MIG 2g.20gb") == "H100 2g.20gb"
    topology, _ = make_topology(config_of("cluster=slurm", "cluster.gres=gpu:h100_2g.20gb:1").cluster, facts_of())
    machine = machine_of(config_of("cluster=slurm", "cluster.gres=gpu:h100_2g.20gb:1"), facts_of(), topology)
    assert machine.operations == part.operations
    assert machine.name == "H100 2g.20gb"
