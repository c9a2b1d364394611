"""A slow rank among the others: whom the shares of own work name, and when it is said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conf.layout import RunFolder
from train.metrics.journal import Journal
from train.metrics.pace import INTERVAL_S, LOOK_STEPS, Pace, Slow, slowest
from train.pulse import PULSE, TRAIN

HOSTS = ["a", "a", "b", "b"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def warnings(folder: RunFolder) -> list[tuple[int, str, float]]:
    if not folder.events.exists():
        return []
    lines = map(json.loads, folder.events.read_text().splitlines())
    return [(line["rank"], line["host"], line["factor"]) for line in lines]


def compare(pace: Pace, slow: float, times: int, steps: int = 1, step_s: float = 0.2) -> list[float]:
    """Lines of metrics in which rank 2's own work takes `slow` times as long as the others'."""
    fast = 0.9 / max(1.0, slow)
    found = [pace.compare([fast, fast, fast * slow, fast], steps, steps * step_s) for _ in range(times)]
    return [factor for factor in found if factor is not None]


@pytest.mark.parametrize("before", range(0, 16, 3))
def test_a_slow_rank_is_named_once_within_50_steps(folder: RunFolder, before: int) -> None:
    """Whenever it begins to be slow."""
    pace = Pace(HOSTS, 1.5, Journal(folder, 0))
    compare(pace, 1.0, before)
    compare(pace, 2.0, 50)
    assert [(rank, host) for rank, host, _ in warnings(folder)] == [(2, "b")]
    compare(pace, 2.0, 100)
    assert len(warnings(folder)) == 1
    compare(pace, 1.0, 40)
    compare(pace, 2.0, 50)
    assert len(warnings(folder)) == 2  # it had recovered


def test_one_slow_moment_is_no_slow_rank(folder: RunFolder) -> None:
    pace = Pace(HOSTS, 1.5, Journal(folder, 0))
    for _ in range(5):
        assert compare(pace, 2.0, LOOK_STEPS) == pytest.approx([2.0])
        assert compare(pace, 1.1, LOOK_STEPS) == pytest.approx([1.1])
    assert warnings(folder) == []


def test_rare_lines_need_one_comparison(folder: RunFolder) -> None:
    compare(Pace(HOSTS, 1.5, Journal(folder, 0)), 3.0, 1, steps=100)
    assert warnings(folder) == [(2, "b", 3.0)]


def test_nobody_is_compared_where_that_means_nothing(folder: RunFolder) -> None:
    journal = Journal(folder, 0)
    assert compare(Pace(HOSTS, 0.0, journal), 9.0, 60) == []
    assert Pace(["a"], 1.5, journal).compare([1.0], 60, 60.0) is None
    assert compare(Pace(HOSTS, 1.5, journal), 9.0, 60, step_s=0.001) == []  # too short for the sampling to tell


def test_slowest_against_the_median() -> None:
    assert slowest([1.0, 2.0], 4.0) == Slow(1, 2.0)
    assert slowest([1.0, 1.0, 4.0, 1.0], 4.0).factor == 4.0
    assert slowest([0.0, 4.0], 4.0).factor == 10.0


def test_little_own_work_is_no_reason_to_be_slow(folder: RunFolder) -> None:
    """Where NCCL's times are all there is, most ranks can have none."""
    pace = Pace(HOSTS, 1.5, Journal(folder, 0))
    assert {pace.compare([0.0, 0.0, 0.0, 0.02], LOOK_STEPS, 3.0) for _ in range(9)} == {1.0}
    assert warnings(folder) == []
    for _ in range(2):
        pace.compare([0.0, 0.0, 0.0, 0.5], LOOK_STEPS, 3.0)
    assert warnings(folder) == [(3, "b", 5.0)]


@pytest.fixture
def training() -> Iterator[None]:
    PULSE.enter(TRAIN)
    yield
    PULSE.enter("")


def test_time_in_collectives_is_not_own_work(folder: RunFolder, training: None) -> None:
    """A thread of a real process is watched: it computes, then waits inside a file of torch.distributed's name."""
    collective = compile("event.wait(seconds)", "/p/torch/distributed/distributed_c10d.py", "exec")
    device, names = torch.device("cpu"), {"event": Quiet(), "seconds": 20 * INTERVAL_S}
    with Pace(HOSTS, 1.5, Journal(folder, 0)) as pace:
        deadline = time.monotonic() + 20 * INTERVAL_S
        while time.monotonic() < deadline:
            sum(range(1000))
        assert pace.take(device) > 0.8
        exec(collective, names)
        assert pace.take(device) < 0.4


class Quiet:
    """Waits in C, as a collective does: the innermost frame is the caller's."""

    wait = staticmethod(time.sleep)


def test_the_watching_thread_ends_with_the_steps(folder: RunFolder) -> None:
    with Pace(HOSTS, 1.5, Journal(folder, 0)):
        assert "pace" in {thread.name for thread in threading.enumerate()}
    deadline = time.monotonic() + 30
    while "pace" in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
