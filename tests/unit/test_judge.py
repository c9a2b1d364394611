"""Whom the next attempt leaves out: files in, files out, within the budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.node_ledger import read_suspects
from conf.outcome import AgentReport, Cause, Failure, State, read_outcome, write_record
from conf.preflight import Check, Preflight
from conf.record import encode_plan
from tests.unit.planned import plan_of
from train.node.aftermath import conclude
from train.node.decide import Verdict
from train.node.env import NodeEnv
from train.preflight.earlier import tired_nodes
from train.preflight.preflight import write_preflight

HOSTS = ("n0", "n1", "n2")
NOBODY: dict[int, str] = {}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.job.folder.mkdir(parents=True)
    cluster = ["cluster=slurm", "cluster.nodes=3", f"cluster.node_ledger={tmp_path}/ledger"]
    found.run_json.write_text(encode_plan(plan_of(*cluster)))
    budget(found, 1)
    return found


def budget(folder: RunFolder, nodes: int) -> None:
    folder.job.settings.write_text(f"continuation=requeue\nleave_out={nodes}\n")


def attempt(
    folder: RunFolder, number: int, failing: dict[int, str] = NOBODY, down: str = "", dead: int | None = None
) -> NodeEnv:
    """What an attempt leaves behind: failing checks by node, nodes that Slurm lost, an agent that is gone."""
    made = folder.attempt(number)
    for path in (made.failures, made.agent_reports):
        path.mkdir(parents=True)
    made.hosts.write_text("\n".join(HOSTS) + "\n")
    if down:
        made.down.write_text(down)
    for node, name in enumerate(HOSTS):
        check = Check(failing.get(node, "memory"), node not in failing, "too little", "has to be more")
        write_preflight(made, Preflight(node, name, 0.0, 0.1, [check]))
        words = f"pre-flight of {name}: {check.name}"
        said = Failure(-1, node, name, 5.0, Cause.bad_node, words) if node in failing else None
        if dead is not None and said is None:
            said = Failure(node, node, name, 6.0, Cause.lost_peer, "connection closed")
        if node != dead:
            write_record(made.agent_report(node), AgentReport(node, name, 0.0, 9.0, "fork", failure=said))
    return NodeEnv(folder.path, number, 3, 0, "n0", 15000, folder.path, "slurm:7", HOSTS)


def left_out(folder: RunFolder, number: int) -> str:
    path = folder.attempt(number).leave_out
    return path.read_text().strip() if path.exists() else ""


def test_an_unfit_node_goes_and_the_ledger_says_why(folder: RunFolder, tmp_path: Path) -> None:
    decision = conclude(folder, attempt(folder, 0, {1: "gpus"}))
    assert (decision.verdict, left_out(folder, 0)) == (Verdict.requeue, "n1")
    (suspect,) = read_suspects(tmp_path / "ledger", 0.0)
    assert (suspect.node, suspect.is_bad, suspect.notes[0].cause) == ("n1", True, "gpus")


@pytest.mark.parametrize(
    ("nodes", "failing", "words"),
    [
        (1, {1: "gpus", 2: "gpus"}, "n1, n2 cannot be left out: health.leave_out is 1 here"),
        (0, {1: "gpus"}, "n1 cannot be left out: health.leave_out is 0 here"),
        (5, {0: "shm", 1: "shm", 2: "shm"}, "all 3 nodes fail alike, so it is the site or a limit: shm"),
    ],
    ids=["too-many", "never", "all-alike"],
)
def test_an_end_with_the_reason(folder: RunFolder, nodes: int, failing: dict[int, str], words: str) -> None:
    budget(folder, nodes)
    decision = conclude(folder, attempt(folder, 0, failing))
    assert (decision.verdict, left_out(folder, 0)) == (Verdict.end, "")
    written = read_outcome(folder.outcome)
    assert written is not None
    assert written.state is State.failed
    assert words in written.reason


def test_the_budget_is_one_for_all_attempts(folder: RunFolder) -> None:
    conclude(folder, attempt(folder, 0, {1: "gpus"}))
    decision = conclude(folder, attempt(folder, 1, {2: "ecc"}))
    assert decision.verdict is Verdict.end
    assert "n2 cannot be left out: health.leave_out is 1 here and 1 used" in decision.outcome.reason


def test_the_second_failure_of_a_node_is_enough_for_the_run_alone(folder: RunFolder, tmp_path: Path) -> None:
    folder.events.write_text('{"event": "checkpoint", "attempt": 0, "step": 5}\n')
    conclude(folder, attempt(folder, 0, dead=2))
    assert left_out(folder, 0) == ""
    conclude(folder, attempt(folder, 1, dead=2))
    assert left_out(folder, 1) == "n2"
    (suspect,) = read_suspects(tmp_path / "ledger", 0.0)
    assert (len(suspect.notes), suspect.is_bad) == (2, False)


OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.\n"


@pytest.mark.parametrize("log", ["job.log", "node2-agent.log"])
def test_a_step_that_slurm_ended_for_want_of_memory_is_not_tried_again(folder: RunFolder, log: str) -> None:
    """The agents of the step are gone with it, which no node is to be blamed for."""
    environment = attempt(folder, 0, dead=2)
    folder.attempt(0).logs.mkdir()
    (folder.attempt(0).logs / log).write_text(f"muster: attempt 0\n{OOM}muster: the ranks' step ended\n")
    decision = conclude(folder, environment)
    assert decision.verdict is Verdict.end
    assert decision.outcome.failure is not None
    assert (decision.outcome.failure.cause, decision.outcome.failure.host) == (Cause.oom, "n2")
    assert "oom_kill event" in decision.outcome.reason
    assert "bad_node" not in folder.events.read_text()


def test_memory_that_ran_out_is_no_cause_where_all_agents_have_spoken(folder: RunFolder) -> None:
    environment = attempt(folder, 0, {1: "gpus"})
    folder.attempt(0).logs.mkdir()
    folder.attempt(0).job_log.write_text(OOM)
    assert conclude(folder, environment).verdict is Verdict.requeue


def test_what_slurm_said_is_remembered_by_the_next_attempt(folder: RunFolder) -> None:
    """Where Slurm itself put the job back, nobody decided. Twice is enough, once; and only within the budget."""
    plan = plan_of("cluster=slurm", "cluster.nodes=3")
    attempt(folder, 0, down="n1 DOWN* Not responding\n--evil x\n")
    attempt(folder, 1, down="n1 slurmd started again\n")
    assert tired_nodes(folder, plan, 1) == {}
    attempt(folder, 2)
    assert tired_nodes(folder, plan, 2) == {"n1": "attempt 0: node_fail, attempt 1: node_fail"}
    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    assert [(event["node"], event["attempt"]) for event in events] == [("n1", 0), ("n1", 1)]
    budget(folder, 0)
    assert tired_nodes(folder, plan, 2) == {}
