"""How a run goes on where sites differ, and what submit says of a save that does not fit: on Slurm's own words."""

from __future__ import annotations

from typing import Any

import pytest

from conf.schema import Continuation
from conf.timing import MARGIN_S, Timing
from launcher.check.check import check
from launcher.facts.slurm import SlurmFacts
from launcher.facts.speed import MeasuredSave
from launcher.plan.grace import expected_save, saved_bytes
from launcher.plan.storage import ASSUMED_SPEED
from slurm.parse import Partition
from slurm.policy import Policy, PreemptMode, read_policy
from tests.unit.planned import config_of, facts_of, plan_of

CONFIG = """\
JobRequeue              = 1
KillWait                = 5 sec
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
"""
PARTITIONS = """\
PartitionName=main AllowGroups=ALL Default=YES GraceTime=0 PriorityTier=10 PreemptMode=OFF State=UP TRES=cpu=16,node=4
PartitionName=preempt AllowGroups=ALL Default=NO GraceTime=60 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=preempt_cancel GraceTime=30 PriorityTier=1 PreemptMode=CANCEL State=UP
PartitionName=abrupt GraceTime=0 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=paused GraceTime=0 PriorityTier=1 PreemptMode=GANG,SUSPEND State=UP
"""
GRACES = {"main": None, "preempt": 60, "preempt_cancel": 30, "abrupt": 5, "paused": None}
SEVEN_BILLION = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
SEVEN_BILLION |= {"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000}
SLURM = ["cluster=slurm", "cluster.time='01:00:00'", "cluster.gpus_per_node=8"]


def partition(name: str) -> Partition:
    return Partition(name, name == "main", True, 4, None, None, 4, 1000, "")


def site(config: str = CONFIG, partitions: str = PARTITIONS) -> SlurmFacts:
    return SlurmFacts(partitions=tuple(map(partition, GRACES)), policy=read_policy(config, partitions))


def test_policy_of_a_real_clusters_words() -> None:
    policy = read_policy(CONFIG, PARTITIONS)
    assert (policy.requeues, policy.kill_wait_s) == (True, 5)
    assert {name: policy.grace_s(name) for name in GRACES} == GRACES
    assert policy.preemptions["preempt_cancel"].mode is PreemptMode.cancel
    assert policy.grace_s("unknown") is None
    unpreempted = read_policy(CONFIG.replace("partition_prio", "none"), PARTITIONS)
    assert {unpreempted.grace_s(name) for name in GRACES} == {None}


BY_QOS = CONFIG.replace("partition_prio", "qos").replace("REQUEUE", "CANCEL")
LEVELS = """\
normal||cluster|00:00:00
urgent|normal,spot,back|cluster|00:00:00
spot||cluster|00:02:00
back||requeue|00:00:00
"""
QOS = {
    "urgent": (PreemptMode.off, None),
    "normal": (PreemptMode.cancel, 5),
    "spot": (PreemptMode.cancel, 120),
    "back": (PreemptMode.requeue, 5),
    "another": (PreemptMode.cancel, None),
    None: (PreemptMode.cancel, None),
}


@pytest.mark.parametrize("levels", [LEVELS, ""], ids=["told", "no answer"])
@pytest.mark.parametrize("qos", QOS)
def test_where_qos_preempt_each_other(qos: str | None, levels: str) -> None:
    policy = read_policy(BY_QOS, PARTITIONS, levels, qos)
    expected = QOS[qos] if levels else QOS[None]
    assert {(policy.preemptions[name].mode, policy.grace_s(name)) for name in GRACES} == {expected}
    assert policy.preempts("main") == (expected[0] is not PreemptMode.off)


def test_no_qos_that_preempts_none() -> None:
    policy = read_policy(BY_QOS, PARTITIONS, "normal||cluster|00:00:00\n")
    assert not any(map(policy.preempts, GRACES))


CASES: dict[str, tuple[list[str], str, Continuation]] = {
    "an ordinary site": ([], CONFIG, Continuation.requeue),
    "a site that does not requeue": ([], CONFIG.replace("= 1", "= 0"), Continuation.chain),
    "a partition that cancels": (["cluster.partition=preempt_cancel"], CONFIG, Continuation.chain),
    "a partition that requeues": (["cluster.partition=preempt"], CONFIG, Continuation.requeue),
    "QOS that cancel": ([], BY_QOS, Continuation.chain),
    "QOS that requeue": ([], BY_QOS.replace("CANCEL", "REQUEUE"), Continuation.requeue),
    "said": (["cluster.partition=preempt_cancel", "cluster.continuation=none"], CONFIG, Continuation.none),
    "said otherwise": (["cluster.continuation=chain"], CONFIG, Continuation.chain),
    "the older key": (["cluster.requeue=false"], CONFIG, Continuation.none),
    "the older key, true": (["cluster.requeue=true"], CONFIG.replace("= 1", "= 0"), Continuation.requeue),
}


@pytest.mark.parametrize(("overrides", "config", "expected"), CASES.values(), ids=CASES)
def test_continuation(overrides: list[str], config: str, expected: Continuation) -> None:
    plan = plan_of(*SLURM, *overrides, slurm=site(config))
    assert plan.continuation is expected
    assert any("cluster.requeue is now called" in text for text in plan.warnings) == ("requeue=" in str(overrides))
    derived = not any("=" in word and "partition" not in word for word in overrides)
    noted = any("cluster.continuation=chain: " in text for text in plan.notes)
    assert noted == (derived and expected is Continuation.chain)


def test_here_and_without_slurms_word() -> None:
    assert plan_of().continuation is Continuation.none
    assert plan_of(*SLURM, slurm=SlurmFacts(error="no Slurm here")).continuation is Continuation.requeue


def test_both_names_of_the_key_are_refused() -> None:
    words = [*SLURM, "cluster.requeue=true", "cluster.continuation=chain"]
    (problem,) = [one for one in check(config_of(*words), facts_of()) if one.key == "cluster.requeue"]
    assert "older name of cluster.continuation=chain" in problem.rule


def large(*overrides: str, **changes: Any) -> list[str]:
    """Warnings of a model whose checkpoint has 12 bytes for each of 6.7 billion parameters."""
    from launcher.facts.model import ModelFacts

    words = [*SLURM, "parallel=zero3", *overrides]
    return plan_of(*words, model=ModelFacts(config=SEVEN_BILLION), slurm=site(), **changes).warnings


def about_saves(warnings: list[str]) -> list[str]:
    return [text for text in warnings if "a save of" in text]


def test_a_save_that_no_grace_covers_is_said() -> None:
    (text,) = about_saves(large("cluster.partition=preempt", "checkpoint.save_steps=200"))
    assert "at 1 GB/s (assumed, none was measured yet)" in text
    assert "the grace of partition preempt is 60 s" in text
    assert "at most checkpoint.save_steps=200 steps are lost" in text
    assert "nearest: cluster.partition=main or paused" in text
    (unsaved,) = about_saves(large("cluster.partition=preempt", "checkpoint.save_steps=0"))
    assert "all steps of the attempt are lost" in unsaved
    assert about_saves(large("cluster.partition=main")) == []


def test_a_measured_speed_counts_more() -> None:
    fast = MeasuredSave("other-00000000", 40 << 30, 4.0)
    assert about_saves(large("cluster.partition=preempt", saves=(fast,))) == []
    tiny = MeasuredSave("tiny-00000000", 15 << 20, 0.2)
    (text,) = about_saves(large("cluster.partition=preempt", saves=(tiny,)))
    assert "assumed" in text
    slow = MeasuredSave("slow-00000000", 1 << 30, 10.0)
    said = about_saves(large("cluster.partition=preempt", saves=(slow, tiny)))
    assert len(said) == 2
    assert all("measured in slow-00000000" in text for text in said)
    assert "cluster.signal_lead_s=300 is too short for the first save" in said[1]


def test_the_runs_own_save_counts_most() -> None:
    plan = plan_of(*SLURM)
    own = MeasuredSave(plan.run_id, 100, 50.0)
    save = expected_save(plan, facts_of(saves=(MeasuredSave("other", 1 << 40, 1.0), own)))
    assert save is not None
    assert (save.size, save.seconds, save.source) == (100, 50.0, "measured in this run")


@pytest.mark.parametrize(("stage", "precision", "each"), [(3, "bf16", 12), (1, "bf16", 14), (3, "fp32", 12)])
def test_bytes_of_a_checkpoint(stage: int, precision: str, each: int) -> None:
    plan = plan_of(*SLURM, f"parallel=zero{stage}", f"train.precision={precision}")
    assert saved_bytes(plan) == each * (plan.parameters or 0)
    save = expected_save(plan, facts_of())
    assert save is not None
    assert save.speed == ASSUMED_SPEED


def test_policy_defaults_say_nothing() -> None:
    assert Policy().grace_s("main") is None


def test_the_lead_follows_what_was_measured() -> None:
    timing = Timing()
    timing.add_pause(5.0)
    assert timing.lead_s is None
    timing.add_save(10.0, 1)
    assert timing.lead_s == pytest.approx(MARGIN_S + 1.2 * (2 * 5.0 + 10.0))
    for _ in range(500):
        timing.add_pause(0.1)
        timing.add_save(1.0, 1)
    assert timing.lead_s == pytest.approx(MARGIN_S + 1.2 * (2 * 0.1 + 1.0))
    timing.add_save(100.0, 1)
    assert timing.lead_s > 100
