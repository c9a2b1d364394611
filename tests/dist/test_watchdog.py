"""Attempts that stand still, with real agents and ranks over gloo: noticed, kept, blamed on the right rank."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.flight_recorder import absences, read_newest
from conf.layout import RunFolder
from conf.outcome import Cause
from tests.dist.test_agent import agent, await_files, cause_of, make_run, port, report_of

pytestmark = pytest.mark.dist

__all__ = ["port"]

LIMIT_S = 3.0
SLOW_MACHINE_S = 120.0


def await_true(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SLOW_MACHINE_S
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_a_rank_that_sleeps_in_a_step(tmp_path: Path, port: int, start: str) -> None:
    folder = make_run(tmp_path, start, train=LIMIT_S)
    with agent(folder, "sleeps", port) as process:
        output, _ = process.communicate(timeout=SLOW_MACHINE_S)
    assert process.returncode == 1, output
    failure = cause_of(folder)
    assert (failure.rank, failure.cause) == (1, Cause.hang)
    assert "in train after step 3 (limit 3 s); gloo:all_reduce (number 2): rank 0 waits, rank 1 did not come" in (
        failure.message
    )
    assert "in sleeps" in failure.traceback
    attempt = folder.attempt(0)
    assert "in all_reduce" in attempt.stack(0, 0).read_text()
    assert "in sleeps" in attempt.stack(0, 1).read_text()
    (absence,) = absences({rank: read_newest(attempt.flight(0, rank)) for rank in (0, 1)})
    assert (absence.waiting, absence.missing) == ((0,), (1,))
    assert all(end.ended_by_agent for end in report_of(folder).exits)
    (event,) = [line for line in map(json.loads, folder.events.read_text().splitlines()) if line["event"] == "hang"]
    assert (event["rank"], event["step"], event["phase"]) == (1, 3, "train")


def test_a_stopped_rank_of_another_node(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2, train=LIMIT_S)
    with (
        agent(folder, "steps_on", port, node=1, nodes=2) as other,
        agent(folder, "steps_on", port, node=0, nodes=2) as head,
    ):
        marks = [tmp_path / f"met-{rank}" for rank in range(4)]
        await_files(*marks)
        os.kill(int(marks[2].read_text()), signal.SIGSTOP)
        time.sleep(2 * LIMIT_S)  # the others go on, so that nothing hangs: it is for the job to notice
        assert head.poll() is None
        for mark in marks:
            if mark != marks[2]:
                os.kill(int(mark.read_text()), signal.SIGSTOP)
        outputs = [process.communicate(timeout=SLOW_MACHINE_S)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (1, 1), outputs
    failure = cause_of(folder)
    assert failure.cause is Cause.hang
    assert "its process is stopped" in failure.message
    kept = sorted(path.name for path in folder.attempt(0).stacks.glob("*.txt"))
    assert kept == [f"node{rank // 2}-rank{rank}.txt" for rank in range(4)]
    assert "in steps_on" in folder.attempt(0).stack(1, 2).read_text()


def test_a_rank_of_another_node_that_sleeps(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2, train=LIMIT_S)
    with (
        agent(folder, "sleeps", port, node=1, nodes=2) as other,
        agent(folder, "sleeps", port, node=0, nodes=2) as head,
    ):
        outputs = [process.communicate(timeout=SLOW_MACHINE_S)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (1, 1), outputs
    failure = cause_of(folder)
    assert (failure.rank, failure.node, failure.host, failure.cause) == (3, 1, "host1", Cause.hang)
    assert "ranks 0, 1, 2 wait, rank 3 did not come" in failure.message


def test_ranks_that_wait_for_one_that_works(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2, train=LIMIT_S)
    with (
        agent(folder, "works_alone", port, node=1, nodes=2) as other,
        agent(folder, "works_alone", port, node=0, nodes=2) as head,
    ):
        outputs = [process.communicate(timeout=SLOW_MACHINE_S)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (0, 0), outputs


def test_a_suspended_job_is_no_hang(tmp_path: Path, port: int) -> None:
    """Slurm suspends agent and ranks alike, for as long as it likes."""
    folder = make_run(tmp_path, train=LIMIT_S)
    with agent(folder, "steps_on", port) as process:
        marks = [tmp_path / f"met-{rank}" for rank in (0, 1)]
        await_files(*marks)
        everybody = [process.pid, *(int(mark.read_text()) for mark in marks)]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody:
                os.kill(pid, number)
            time.sleep(2.5 * LIMIT_S if number == signal.SIGSTOP else 0.0)
        (tmp_path / "enough").write_text("")
        output, _ = process.communicate(timeout=SLOW_MACHINE_S)
    assert process.returncode == 0, output


HANGING_DATA = """
import os, time
from pathlib import Path
from train.node.stacks import stacks_file, write_stacks_on_request
write_stacks_on_request(stacks_file(Path(os.environ["MUSTER_SCRATCH"]), -1))
time.sleep(600)
"""


def test_a_data_step_that_hangs(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, prepare=LIMIT_S)
    with agent(folder, "fine", port, data=HANGING_DATA) as process:
        output, _ = process.communicate(timeout=SLOW_MACHINE_S)
    assert process.returncode == 1, output
    failure = cause_of(folder)
    assert (failure.rank, failure.node, failure.cause) == (-1, 0, Cause.hang)
    assert "no sign of progress for 3 s in prepare (limit 3 s); it is the data step" in failure.message
    assert "line 6 in <module>" in failure.traceback


def test_stacks_on_request(tmp_path: Path, port: int) -> None:
    folder: RunFolder = make_run(tmp_path)
    with agent(folder, "steps_on", port) as process:
        await_files(tmp_path / "met-0", tmp_path / "met-1")
        os.kill(int((tmp_path / "met-1").read_text()), signal.SIGUSR1)
        kept = folder.attempt(0).stack(0, 1)
        await_true(lambda: kept.exists() and "in steps_on" in kept.read_text(), "the stacks were not kept")
        (tmp_path / "enough").write_text("")
        assert process.wait(timeout=SLOW_MACHINE_S) == 0
