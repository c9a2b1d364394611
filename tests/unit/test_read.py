"""Reading run folders: tails, half-written lines, attempts, causes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from conf.layout import RunFolder
from conf.metrics import merge_steps
from conf.outcome import AgentReport, Cause, Failure, RankExit
from launcher.runs.cause import find_root_cause
from launcher.runs.read import (
    Follower,
    last_text_lines,
    list_attempts,
    number,
    read_lines,
    read_tail,
    tail_lines,
)
from tests.unit.runs import append, begin, metrics, write_failure, write_report


def test_a_tail_has_whole_lines_only_and_reads_little(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, *(metrics(step, 1.0) for step in range(1000)))
    whole = list(read_lines(path))
    for size in (200, 1000, 5000):
        tail = read_tail(path, size)
        assert tail == whole[-len(tail) :]
        assert 0 < len(tail) < 1000
        assert sum(len(raw) + 1 for raw in tail_lines(path, size)) <= size
    assert read_tail(path, 10**9) == whole
    exact = len(json.dumps(metrics(999, 1.0))) + 1
    assert len(read_tail(path, exact)) == 1


def test_half_written_and_broken_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\nnot json\n[1]\n\xff\xfe\n{"step": 2}\n{"step": 3')
    assert [line["step"] for line in read_lines(path)] == [1, 2]
    assert [line["step"] for line in read_tail(path)] == [1, 2]
    follower = Follower(path)
    assert [line["step"] for line in follower.read()] == [1, 2]
    with path.open("ab") as file:
        file.write(b'}\n{"step": 4}\n')
    assert [line["step"] for line in follower.read()] == [3, 4]
    assert follower.read() == []
    path.write_bytes(b'{"step": 9}\n')
    assert [line["step"] for line in follower.read()] == [9]


def test_nothing_there_is_nothing_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert (
        list(read_lines(missing)) == read_tail(missing) == last_text_lines(missing, 3) == Follower(missing).read() == []
    )
    assert list_attempts(RunFolder(missing)) == []


def test_the_last_attempt_wins_for_a_step() -> None:
    lines = [
        metrics(1, 3.0),
        metrics(2, 2.0),
        {"step": 2, "attempt": 0, "eval/loss": 5.0},
        metrics(2, 2.5, attempt=1),
        metrics(2, 9.9, attempt=0),
        {"step": "x"},
    ]
    merged = merge_steps(lines)
    assert {step: line["train/loss"] for step, line in merged.items()} == {1: 3.0, 2: 2.5}
    assert "eval/loss" not in merged[2]
    assert merge_steps(lines[:3])[2]["eval/loss"] == 5.0


@given(some.lists(some.tuples(some.integers(0, 9), some.integers(1, 9)), max_size=5))
def test_only_the_steps_that_led_to_the_end_count(parts: list[tuple[int, int]]) -> None:
    """Attempts, each of which goes on after a step that was saved and makes some: the last one may reach fewer."""
    lines: list[dict[str, Any]] = []
    expected: dict[int, int] = {}
    for attempt, (saved, made) in enumerate(parts):
        steps = range(min(saved, max(expected, default=0)) + 1, saved + made + 1)
        lines += [
            {**metrics(step, 1.0, attempt=attempt), **more} for step in steps for more in ({}, {"eval/loss": 1.0})
        ]
        expected = {step: by for step, by in expected.items() if step < steps[0]} | dict.fromkeys(steps, attempt)
    merged = merge_steps(lines)
    assert {step: line["attempt"] for step, line in merged.items()} == expected
    assert list(merged) == sorted(merged)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), ("inf", float("inf")), ("-inf", float("-inf")), ("x", None), (None, None), (True, None)],
)
def test_number(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_log_tail_keeps_the_last_state_of_a_bar_and_an_open_line(tmp_path: Path) -> None:
    log = tmp_path / "rank.log"
    log.write_bytes(b"one\nbar 1%\rbar 100%\n\xffthree")
    assert last_text_lines(log, 2) == ["bar 100%", "\ufffdthree"]


def test_attempts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "0", "x", "1.tmp"):
        (tmp_path / "attempts" / name).mkdir(parents=True)
    assert [attempt.number for attempt in list_attempts(RunFolder(tmp_path))] == [0, 9, 10]


def failure(rank: int, at: float, cause: Cause = Cause.user_code, message: str = "boom") -> Failure:
    return Failure(rank=rank, node=0, host="h", time=at, cause=cause, message=message, traceback=f"trace of {rank}")


def rank_exit(
    rank: int, at: float, status: int | None = None, signal: int | None = None, by_agent: bool = False
) -> RankExit:
    return RankExit(rank, rank, 100 + rank, at, exit_status=status, signal=signal, ended_by_agent=by_agent)


CAUSES = {
    "the first in time": ([failure(1, 2.0), failure(0, 3.0)], [], 1, Cause.user_code),
    "not a victim that wrote earlier": (
        [
            failure(0, 1.0, Cause.lost_peer, "x"),
            failure(2, 1.5, Cause.lost_peer, "Connection reset by peer"),
            failure(1, 2.0),
        ],
        [],
        1,
        Cause.user_code,
    ),
    "a rank killed without a word": (
        [failure(0, 4.9, Cause.lost_peer, "gloo: Connection closed by peer [10.0.0.1]:4411")],
        [rank_exit(0, 5.2, status=1), rank_exit(1, 5.0, signal=9), rank_exit(2, 4.9, status=0)],
        1,
        Cause.killed,
    ),
    "not one that the agent ended": (
        [],
        [rank_exit(0, 5.0, signal=9, by_agent=True), rank_exit(1, 5.1, signal=11)],
        1,
        Cause.killed,
    ),
    "one that was ended by SIGTERM, not by the agent": (
        [],
        [rank_exit(0, 5.0, signal=15), rank_exit(1, 5.1, signal=11)],
        0,
        Cause.killed,
    ),
    "a victim where there is nothing else": ([failure(3, 1.0, Cause.lost_peer)], [], 3, Cause.lost_peer),
    "an agent's own failure": ([], [], -1, Cause.config),
}


@pytest.mark.parametrize(("failures", "exits", "rank", "cause"), CAUSES.values(), ids=CAUSES)
def test_root_cause(tmp_path: Path, failures: list[Failure], exits: list[RankExit], rank: int, cause: Cause) -> None:
    attempt = begin(RunFolder(tmp_path))
    for item in failures:
        write_failure(attempt, item)
    own = failure(-1, 0.5, Cause.config) if rank == -1 else None
    write_report(attempt, AgentReport(node=0, host="h", started=0, ended=9, start="fork", exits=exits, failure=own))
    (attempt.failures / "rank7.json").write_text("{broken")
    found = find_root_cause(attempt)
    assert found is not None
    assert (found.rank, found.cause) == (rank, cause)
    bad = {item.rank for item in failures} | {end.rank for end in exits if end.signal or end.exit_status}
    assert set(found.victims) == bad - {rank}
    assert found.log == (attempt.rank_log(0, rank) if rank >= 0 else attempt.agent_log(0))


def test_no_cause_where_nothing_failed(tmp_path: Path) -> None:
    attempt = begin(RunFolder(tmp_path))
    exits = [rank_exit(0, 1.0, status=0)]
    write_report(attempt, AgentReport(node=0, host="h", started=0, ended=1, start="fork", exits=exits))
    assert find_root_cause(attempt) is None
