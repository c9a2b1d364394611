"""Calls of a rank, at whatever depth, map no memory for their frames."""

from __future__ import annotations

import resource
import sys

import pytest

from train.node.frames import call_with_room

CALLS = 300
DEEPEST = 400


def leaf(a: int, b: int, c: int, d: int) -> int:
    return a + b + c + d


def most_faults(depth: int = DEEPEST) -> int:
    """Of all depths the most page faults that some calls from there make."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        leaf(1, 2, 3, 4)
    here = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return max(here, most_faults(depth - 1)) if depth else here


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="other interpreters keep frames elsewhere")
def test_no_depth_pays_for_its_frames() -> None:
    found: list[int] = []
    call_with_room(lambda: found.append(most_faults()))
    assert found[0] < CALLS / 2


def test_what_is_raised_comes_through() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        call_with_room(fail)
