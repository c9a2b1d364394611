"""`parallel=auto` and `cluster.nodes=auto`: the cheapest of every way that fits, whatever is given."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from conf.choice import AUTO_KEYS
from conf.measured import Measured
from conf.record import Plan
from conf.schema import RunConfig
from launcher.check.check import check
from launcher.choice.choose import Chosen, choose
from launcher.choice.search import Search
from launcher.choice.space import Candidate, applied
from launcher.choice.table import table_of
from launcher.compose.compose import compose
from launcher.facts.architecture import Made
from launcher.facts.facts import Facts
from launcher.facts.model import ModelFacts
from launcher.facts.runs import ExistingRun
from launcher.plan.content import content_of, plain
from launcher.plan.plan import make_plan
from launcher.plan.shapes.known import shape_of
from launcher.render.artifacts import config_yaml
from launcher.show import choice_page
from launcher.show.memory_page import device_title
from launcher.show.table_page import table_lines
from tests.unit.planned import TINY, TRAIN, facts_of

LLAMA_1B: dict[str, Any] = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 128256}
LLAMA_1B |= {"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True}
LLAMA_8B = LLAMA_1B | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
LLAMA_8B |= {"tie_word_embeddings": False}
ROWS = replace(TRAIN, lengths=tuple(range(200, 20000, 90)), rows=20000)
SLURM = ("cluster=slurm", "cluster.gpus_per_node=4", "cluster.max_nodes=4")


def words(*more: str) -> list[str]:
    return ["model=tiny", "data.train_file=train.jsonl", "train.global_batch_size=64", *more]


def facts_for(shape: dict[str, Any], **changes: Any) -> Facts:
    return facts_of(model=ModelFacts(config=shape), data_files={ROWS.key: ROWS}, **changes)


def chosen(config: RunConfig, facts: Facts) -> Chosen:
    found = choose(config, facts)
    assert found.choice is not None, found.problems
    return found


def price(plan: Plan) -> float:
    assert plan.time is not None
    return plan.time.step.likely * plan.time.devices


def fits(plan: Plan) -> bool:
    """Whether even the high estimate of a rank's GPU, or the likely one of a node without, is there."""
    assert plan.memory is not None
    host = plan.memory.host
    if host is not None and host.fits is False:
        return False
    return plan.memory.device is None or bool(plan.memory.device.surely_fits)


def every_plan(config: RunConfig, facts: Facts) -> dict[Candidate, Plan]:
    """Every way, each planned as a configuration of its own."""
    search = Search(config, facts)
    found = {}
    for nodes in search.space.nodes():
        for family in search.space.families(nodes):
            for candidate in search.space.candidates(nodes, family):
                found[candidate] = make_plan(applied(config, candidate), facts)
    return found


CASES = [
    pytest.param(
        LLAMA_8B, [*SLURM, "cluster.nodes=auto", "cluster.gpu_memory_gib=79", "data.max_length=4096"], id="8B"
    ),
    pytest.param(
        LLAMA_8B, [*SLURM, "cluster.nodes=auto", "cluster.gpu_memory_gib=30", "data.max_length=2048"], id="30G"
    ),
    pytest.param(LLAMA_8B, [*SLURM, "cluster.nodes=2", "cluster.gpu_memory_gib=22", "data.max_length=1024"], id="22G"),
    pytest.param(
        LLAMA_1B,
        [*SLURM, "cluster.nodes=auto", "cluster.gpu_memory_gib=22", "data.packing=none", "data.max_length=2048"],
        id="padded",
    ),
    pytest.param(LLAMA_1B, [*SLURM, "cluster.gpu_memory_gib=14", "method=lora", "data.max_length=1024"], id="lora"),
    pytest.param(LLAMA_1B, [*SLURM, "cluster.gpu_memory_gib=40", "train.precision=fp32"], id="fp32"),
    pytest.param(
        LLAMA_8B, [*SLURM, "cluster.nodes=auto", "cluster.gpu_memory_gib=79", "parallel.zero_stage=2"], id="given-stage"
    ),
    pytest.param(
        LLAMA_1B, [*SLURM, "cluster.gpu_memory_gib=22", "train.per_device_train_batch_size=2"], id="given-micro"
    ),
    pytest.param(LLAMA_1B, ["cluster.ranks_per_node=2", "train.precision=fp32"], id="cpu"),
]


@pytest.mark.parametrize(("shape", "overrides"), CASES)
def test_the_choice_is_the_cheapest_of_every_way_that_fits(shape: dict[str, Any], overrides: list[str]) -> None:
    facts = facts_for(shape, memory_gib=40.0)
    config = compose(words("parallel=auto", *overrides))
    plans = every_plan(config, facts)
    assert len(plans) > 4
    best = min((price(plan) for plan in plans.values() if fits(plan)), default=None)
    found = chosen(config, facts)
    plan = make_plan(found.config, facts, found.choice)
    assert best is not None
    assert fits(plan)
    assert price(plan) == pytest.approx(best, rel=1e-9)
    assert not check(found.config, facts)


def test_keys_that_are_given_are_kept_and_said() -> None:
    facts = facts_for(LLAMA_1B)
    given = ["parallel.zero_stage=2", "train.gradient_checkpointing=true", "train.per_device_train_batch_size=1"]
    for order in itertools.permutations(given):
        found = chosen(compose(words("parallel=auto", *SLURM, "cluster.gpu_memory_gib=79", *order)), facts)
        assert found.config.parallel.zero_stage == 2
        assert found.config.train.gradient_checkpointing
        assert found.config.train.per_device_train_batch_size == 1
        assert found.choice is not None
        assert set(found.choice.given) >= {given.partition("=")[0] for given in order}
        assert not set(found.choice.keys) & {given.partition("=")[0] for given in order}


def test_a_default_that_is_given_is_kept_too() -> None:
    facts, base = facts_for(LLAMA_1B), words("parallel=auto", *SLURM, "cluster.gpu_memory_gib=79")
    assert chosen(compose(base), facts).config.parallel.zero_stage == 1
    assert chosen(compose([*base, "parallel.zero_stage=3"]), facts).config.parallel.zero_stage == 3


def test_what_was_chosen_are_plain_keys_that_plan_the_same_run() -> None:
    facts = facts_for(LLAMA_8B)
    base = words(*SLURM, "cluster.gpu_memory_gib=79", "cluster.nodes=2", "data.max_length=4096")
    found = chosen(compose([*base, "parallel=auto"]), facts)
    assert found.choice is not None
    spelled = [f"{key}={str(value).lower()}" for key, value in found.choice.keys.items()]
    again = make_plan(compose([*base, *spelled]), facts)
    plan = make_plan(found.config, facts, found.choice)
    assert plan.run_id == again.run_id
    assert plan.layouts == again.layouts
    assert config_yaml(plan).startswith("# chosen: parallel.zero_stage=")


def test_nodes_choose_the_sharding_as_well_unless_one_is_chosen() -> None:
    nodes = words(*SLURM, "cluster.nodes=auto")
    assert compose(nodes).parallel.auto == list(AUTO_KEYS)
    assert compose([*nodes, "parallel=zero3"]).parallel.auto == []
    assert compose(words(*SLURM)).parallel.auto == []


def test_nothing_fits_is_said_with_what_is_missing() -> None:
    found = chosen(compose(words("parallel=auto", "cluster.gpu_memory_gib=4", *SLURM)), facts_for(LLAMA_8B))
    assert found.choice is not None
    assert found.choice.reason.startswith("nothing fits")
    assert all("does not fit by" in one.reason for one in found.choice.alternatives)


def test_alternatives_have_reasons_and_no_better_one() -> None:
    facts = facts_for(LLAMA_8B)
    config = compose(words("cluster.nodes=auto", *SLURM, "cluster.gpu_memory_gib=40", "data.max_length=4096"))
    found = chosen(config, facts)
    assert found.choice is not None
    shown = found.choice.alternatives
    assert any(one.fits for one in shown)
    assert any(one.fits is False for one in shown)
    assert all(one.cost >= 1 for one in shown if one.fits)
    assert {one.overrides[0] for one in shown} >= {"cluster.nodes=2", "cluster.nodes=4"}
    page = "\n".join(choice_page.lines(found.choice))
    assert "times the GPU-hours" in page
    assert "does not fit by" in page


def test_what_is_unknown_is_asked_for() -> None:
    unknown = choose(compose(words("parallel=auto", *SLURM)), facts_for(LLAMA_8B))
    assert [problem.key for problem in unknown.problems] == ["cluster.gpu_memory_gib"]
    strange = facts_of(model=ModelFacts(config={"model_type": "strange"}))
    assert choose(compose(words("parallel=auto")), strange).problems
    script = choose(compose(["task=script", "parallel=auto"]), facts_of())
    assert script.problems


STRANGE: dict[str, Any] = LLAMA_8B | {"model_type": "glm4"}


def test_auto_needs_to_know_what_layers_keep_unless_that_is_settled() -> None:
    weights = shape_of(LLAMA_8B)
    facts = facts_for(STRANGE, made=Made(weights))
    base = words("parallel=auto", *SLURM, "cluster.gpu_memory_gib=79")
    (problem,) = choose(compose(base), facts).problems
    assert (problem.key, problem.value) == ("parallel", "auto")
    assert "glm4" in problem.rule
    near = problem.nearest.split()
    plan = make_plan(compose([*words(*SLURM, "cluster.gpu_memory_gib=79"), *near]), facts)
    assert plan.memory is not None
    assert plan.memory.device is not None
    assert not plan.memory.device.surely_fits
    assert "fits without its activations, which are not known" in device_title(plan.memory.device)
    assert any(text.startswith("may not fit: activations are not known") for text in plan.warnings)
    found = chosen(compose([*base, *near[:2], "train.gradient_checkpointing_interval=1"]), facts)
    assert found.config.train.per_device_train_batch_size == 1
    assert found.config.train.gradient_checkpointing


def test_a_run_goes_on_as_it_was_chosen() -> None:
    """What was learned meanwhile chooses for new runs, not for one that is there."""
    facts = facts_for(LLAMA_8B)
    config = compose(words("parallel=auto", *SLURM, "cluster.gpu_memory_gib=79", "cluster.nodes=2"))
    first = make_plan(chosen(config, facts).config, facts)
    record = Measured("llama", "gpu", 2, "", False, "full", "bf16", "exact", 2, 8, 1, 100, 400, 1.0, 1.0)
    there = ExistingRun(first.run_id, "x", first.run_dir, content_of(first.config), chosen=True)
    learned = replace(facts, measured=(record, replace(record, stage=first.config.parallel.zero_stage)))
    fresh = make_plan(chosen(config, learned).config, learned)
    again = make_plan(chosen(config, replace(learned, existing_runs=(there,))).config, learned)
    assert fresh.run_id != first.run_id
    assert again.run_id == first.run_id


def test_a_plain_configuration_is_left_alone() -> None:
    config = compose(words())
    found = choose(config, facts_of(model=ModelFacts(config=TINY)))
    assert plain(found.config) == plain(config)
    assert found.choice is None


def test_the_table_says_what_plans_say() -> None:
    facts = facts_for(LLAMA_8B)
    base = words(*SLURM, "cluster.gpu_memory_gib=40", "data.packing=none")
    cells = table_of(compose([*base, "data.max_length=2048", "parallel=zero3"]), facts)
    assert {cell.length for cell in cells} == {1024, 2048, 4096}
    assert {cell.fits for cell in cells} == {True, False}
    for cell in cells:
        if cell.sharding in ("zero1", "zero2_offload", "zero3_offload") and cell.micro in (1, 8):
            own = [f"parallel={cell.sharding}", f"train.per_device_train_batch_size={cell.micro}"]
            plan = make_plan(compose([*base, *own, f"data.max_length={cell.length}"]), facts)
            assert plan.memory is not None
            assert plan.memory.device is not None
            assert plan.time is not None
            assert cell.peak == plan.memory.device.peak.likely
            assert cell.step_s == pytest.approx(plan.time.step.likely)
            assert cell.tokens_per_second == pytest.approx(plan.time.tokens_per_second)
    page = table_lines(cells)
    assert sum("tokens" in line for line in page) == 3
    assert any("+" in line for line in page)
