"""The table of what comes after an attempt, and the files around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from conf.cause import TERMINATED
from conf.layout import RunFolder
from conf.outcome import (
    AgentReport,
    Cause,
    Failure,
    Outcome,
    State,
    StopReason,
    read_outcome,
    write_outcome,
    write_record,
)
from conf.schema import RunConfig, TrackingMode
from tests.dist.runs import write_plan
from train.node.aftermath import conclude, read_history
from train.node.decide import History, Settings, Verdict, decide
from train.node.env import NodeEnv
from train.node.settings import read_settings

NOW = 1_800_000_000.0
QUEUE = Settings(goes_on=True, max_requeues=20)


def failure(cause: Cause, rank: int = 1, node: int = 0, time: float = 5.0, message: str = "words") -> Failure:
    return Failure(rank=rank, node=node, host=f"host{node}", time=time, cause=cause, message=message)


def report(node: int = 0, said: Failure | None = None) -> AgentReport:
    return AgentReport(node=node, host=f"host{node}", started=0, ended=9, start="fork", failure=said)


def outcome(state: State, cause: Cause | None = None, attempt: int = 0) -> Outcome:
    return Outcome(state, "by rank 0", 7, attempt, NOW, failure(cause) if cause else None)


TERMINATION = failure(Cause.killed, rank=-1, message=TERMINATED)


@dataclass(frozen=True)
class Case:
    verdict: Verdict
    state: State
    cause: Cause | None = None
    said: str = ""
    outcome: Outcome | None = None
    stop: StopReason | None = None
    failures: list[Failure] = field(default_factory=list)
    reports: list[AgentReport] = field(default_factory=lambda: [report()])
    steps: Mapping[int, int] = field(default_factory=dict)
    attempt: int = 0
    since: int = 0
    nodes: int = 1
    settings: Settings = QUEUE


END, REQUEUE = Verdict.end, Verdict.requeue
crash = failure(Cause.user_code)
killed = failure(Cause.killed)
saved = {0: 10}
CASES = {
    "done": Case(END, State.done, outcome=outcome(State.done)),
    "stopped": Case(END, State.stopped, outcome=outcome(State.stopped), stop=StopReason.stopped),
    "cancelled": Case(END, State.cancelled, outcome=outcome(State.cancelled)),
    "time limit": Case(REQUEUE, State.time_limit, outcome=outcome(State.time_limit), steps=saved),
    "preempted": Case(REQUEUE, State.preempted, outcome=outcome(State.preempted), steps=saved),
    "time limit, no requeue": Case(END, State.time_limit, outcome=outcome(State.time_limit), settings=Settings()),
    "time limit, budget used up": Case(
        END,
        State.time_limit,
        outcome=outcome(State.time_limit),
        attempt=20,
        steps={20: 10},
        said="budget of 20 requeues",
    ),
    "time limit too short to save, three times": Case(
        END, State.failed, outcome=outcome(State.time_limit), attempt=2, said="no_progress: 3 attempts in a row"
    ),
    "preempted before it could save, many times": Case(REQUEUE, State.preempted, stop=StopReason.preempted, attempt=5),
    "the same by a person's resume": Case(
        REQUEUE, State.time_limit, outcome=outcome(State.time_limit), attempt=30, since=29, steps={28: 10}
    ),
    "crash with a newer checkpoint": Case(REQUEUE, State.failed, Cause.user_code, failures=[crash], steps=saved),
    "crash after repeating what was saved": Case(
        END, State.failed, Cause.user_code, failures=[crash], attempt=1, steps={0: 10, 1: 10}
    ),
    "crash without progress": Case(END, State.failed, Cause.user_code, "rank 1 on host0", failures=[crash]),
    "crash with progress, no requeue": Case(
        END, State.failed, Cause.user_code, failures=[crash], steps=saved, settings=Settings()
    ),
    "killed with a newer checkpoint": Case(REQUEUE, State.failed, Cause.killed, failures=[killed], steps=saved),
    "killed without progress": Case(END, State.failed, Cause.killed, "rank 1 on host0", failures=[killed]),
    "network lost three times without progress": Case(
        END, State.failed, Cause.lost_peer, "no_progress", failures=[failure(Cause.lost_peer)], attempt=2
    ),
    "network lost, progress in between": Case(
        REQUEUE, State.failed, Cause.lost_peer, failures=[failure(Cause.lost_peer)], attempt=3, steps={1: 5}
    ),
    "NaN, said by rank 0": Case(END, State.failed, Cause.nan, outcome=outcome(State.failed, Cause.nan), steps=saved),
    "out of memory with progress": Case(END, State.failed, Cause.oom, failures=[failure(Cause.oom)], steps=saved),
    "CUDA out of memory": Case(END, State.failed, Cause.cuda_oom, failures=[failure(Cause.cuda_oom)], steps=saved),
    "configuration": Case(END, State.failed, Cause.config, failures=[failure(Cause.config)], steps=saved),
    "data": Case(END, State.failed, Cause.data, reports=[report(said=failure(Cause.data, rank=-1))]),
    "import": Case(END, State.failed, Cause.import_error, failures=[failure(Cause.import_error)]),
    "every checkpoint bad": Case(END, State.failed, Cause.checkpoint, failures=[failure(Cause.checkpoint)]),
    "the cause, not an earlier victim": Case(
        END,
        State.failed,
        Cause.data,
        "rank 3 on host1",
        failures=[failure(Cause.lost_peer, rank=0, time=4.0), failure(Cause.data, rank=3, node=1, time=4.5)],
        reports=[report(0), report(1)],
        nodes=2,
    ),
    "the first of two causes": Case(
        END,
        State.failed,
        Cause.import_error,
        failures=[failure(Cause.data, rank=0, time=4.0), failure(Cause.import_error, rank=1, time=3.0)],
    ),
    "victims alone": Case(REQUEUE, State.failed, Cause.lost_peer, failures=[failure(Cause.lost_peer)]),
    "a node that never reported": Case(
        REQUEUE, State.failed, Cause.lost_peer, "agents of nodes 1 are gone", reports=[report(0)], nodes=2
    ),
    "told to end because another node is gone": Case(
        REQUEUE, State.failed, Cause.lost_peer, "agents of nodes 1 are gone", reports=[report(0, TERMINATION)], nodes=2
    ),
    "a rank without a word because another node is gone": Case(
        REQUEUE,
        State.failed,
        Cause.lost_peer,
        "agents of nodes 1 are gone",
        failures=[failure(Cause.unknown, rank=0)],
        reports=[report(0)],
        nodes=2,
    ),
    "told to end by a person": Case(END, State.cancelled, Cause.killed, reports=[report(said=TERMINATION)]),
    "cancelled at once": Case(
        END, State.cancelled, said="nothing was saved", stop=StopReason.cancelled, reports=[report(said=TERMINATION)]
    ),
    "preempted, killed before it could save": Case(
        REQUEUE, State.preempted, stop=StopReason.preempted, failures=[killed], steps=saved
    ),
    "crash while stopping": Case(
        END, State.failed, Cause.data, stop=StopReason.preempted, failures=[failure(Cause.data)]
    ),
    "stop before the ranks": Case(END, State.stopped, stop=StopReason.stopped),
    "ranks end without an outcome": Case(END, State.failed, Cause.unknown, "ended without an outcome"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_decision(case: Case) -> None:
    history = History(case.attempt, case.nodes, case.steps, since=case.since)
    decision = decide(case.outcome, case.stop, case.reports, case.failures, history, case.settings, NOW)
    assert (decision.verdict, decision.outcome.state) == (case.verdict, case.state)
    assert case.said in decision.outcome.reason
    if case.outcome is None or case.cause:
        assert (decision.outcome.failure.cause if decision.outcome.failure else None) == case.cause


@pytest.mark.parametrize(
    ("steps", "attempt", "streak"),
    [
        ({}, 0, 1),
        ({}, 2, 3),
        ({0: 5}, 0, 0),
        ({0: 5}, 1, 1),
        ({0: 5, 1: 5}, 1, 1),
        ({0: 5, 1: 4, 2: 6}, 2, 0),
        ({0: 5}, 4, 4),
    ],
)
def test_attempts_without_progress(steps: dict[int, int], attempt: int, streak: int) -> None:
    assert History(attempt, 1, steps).without_progress == streak


def make_folder(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.job.folder.mkdir()
    folder.attempt(1).failures.mkdir(parents=True)
    folder.attempt(1).agent_reports.mkdir()
    folder.job.settings.write_text("nodes=1\ncontinuation=chain\nmax_requeues=5\nhost_suffix=\n")
    return folder


def environment(folder: RunFolder, job: str = "slurm:7") -> NodeEnv:
    return NodeEnv(folder.path, 1, 1, 0, "localhost", 15000, folder.path, job, ())


def test_files_in_and_out(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    lines = [
        {"time": 1, "attempt": 0, "event": "checkpoint", "step": 20},
        {"time": 2, "attempt": 1, "event": "checkpoint", "step": 30},
        {"time": 2, "attempt": 1, "event": "checkpoint", "step": 40},
    ]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "checkp\n')
    write_outcome(folder.outcome, outcome(State.time_limit, attempt=0))
    write_record(folder.attempt(1).failure(1), failure(Cause.killed, message="killed by SIGKILL"))
    write_record(folder.attempt(1).agent_report(0), report())

    assert read_history(folder, 1, 1) == History(1, 1, {0: 20, 1: 40})
    assert read_settings(folder) == Settings(goes_on=True, max_requeues=5)
    decision = conclude(folder, environment(folder))

    assert decision.verdict is Verdict.requeue
    assert folder.attempt(1).decision.read_text() == "requeue\n"
    written = read_outcome(folder.outcome)
    assert written == decision.outcome
    assert (written.state, written.attempt, written.step) == (State.failed, 1, 40)
    assert written.checkpoint == str(folder.checkpoint(40))
    ended, decided = (json.loads(line) for line in folder.events.read_text().splitlines()[-2:])
    assert (ended["event"], ended["state"], ended["attempt"]) == ("attempt_ended", "failed", 1)
    assert (decided["event"], decided["decision"]) == ("decision", "requeue")


def test_own_word_of_rank_0_stays(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    write_outcome(folder.outcome, outcome(State.done, attempt=1))
    decision = conclude(folder, environment(folder))
    assert decision.good
    written = read_outcome(folder.outcome)
    assert written is not None
    assert (written.state, written.reason, written.step) == (State.done, "by rank 0", 7)
    assert folder.attempt(1).decision.read_text() == "end\n"


@pytest.mark.parametrize(
    ("state", "told"), [(State.failed, False), (State.time_limit, True)], ids=["by rank 0", "no progress"]
)
def test_w_and_b_is_told_what_rank_0_could_not_say(
    state: State, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process of its own tries, here without a key: that a run which only meets its time limit is given up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = RunConfig()
    config.tracking.mode = TrackingMode.online
    write_plan(tmp_path / "run", config)
    folder = make_folder(tmp_path / "run")
    write_outcome(folder.outcome, outcome(state, Cause.nan if state is State.failed else None, attempt=3))
    folder.attempt(3).folder.mkdir()
    decision = conclude(folder, replace(environment(folder), attempt=3))
    assert (decision.verdict, decision.outcome.state) == (Verdict.end, State.failed)
    assert ("W&B was not told how attempt 3 ended" in capfd.readouterr().out) is told


def test_nobody_requeues_a_local_run(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    write_record(folder.attempt(1).failure(1), killed)
    decision = conclude(folder, environment(folder, job="local:7"))
    assert (decision.verdict, decision.good) == (Verdict.end, False)


def test_data_jobs_and_exports_use_up_no_budget(tmp_path: Path) -> None:
    """Of six attempts three trained; what the others were is in their job.json."""
    folder = make_folder(tmp_path)
    for number, verb in enumerate(["prepare", "agent", "agent", "export", "export"]):
        folder.attempt(number).folder.mkdir(exist_ok=True)
        folder.attempt(number).job.write_text(json.dumps({"verb": verb}))
    history = read_history(folder, 5, 1)
    assert (history.requeues, history.without_progress) == (2, 3)


def test_a_checkpoint_that_nobody_could_report_is_progress(tmp_path: Path) -> None:
    """Published by a process beside the training, and rank 0 killed before it heard of that."""
    folder = make_folder(tmp_path)
    folder.events.write_text(json.dumps({"attempt": 0, "event": "checkpoint", "step": 4}) + "\n")
    for name in ("step-00000004", "step-00000008", "step-00000012.bad"):
        (folder.checkpoints / name).mkdir(parents=True)
        (folder.checkpoints / name / "manifest.json").touch()
    (folder.checkpoints / "step-00000016").mkdir()  # without a manifest
    write_record(folder.attempt(1).failure(1), failure(Cause.killed))
    assert read_history(folder, 1, 1).steps == {0: 4, 1: 8}
    decision = conclude(folder, environment(folder))
    assert decision.verdict is Verdict.requeue
    assert "goes on from step 8" in decision.outcome.reason
    conclude(folder, environment(folder))
    assert read_history(folder, 3, 1).steps == {0: 4, 1: 8}, "and of no later attempt"
