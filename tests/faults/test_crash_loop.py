"""Row 18: attempt after attempt ends before it could save anything."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.slurm.live import (
    ENDLESS,
    TWO_NODES,
    cancel,
    decision,
    in_queue,
    jobs_of,
    outcome,
    parent_of,
    process_of,
    submit,
    wait_for,
)
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.mark.fault(18)
@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill the other user's agents")
def test_three_attempts_without_progress(person: Person, figures: dict[str, Any]) -> None:
    """The agent of the second node is killed each time: a machine's fault, worth another attempt, but not for ever."""
    words = [*TWO_NODES, ENDLESS, "name=loop", "checkpoint.save_steps=0", "cluster.continuation=chain"]
    folder, run_id = submit(person, person.home, *words)
    for attempt in range(3):
        wait_for(lambda attempt=attempt: folder.attempt(attempt).rank_log(1, 1).exists(), folder, f"attempt {attempt}")
        os.kill(agent_of(folder, attempt), signal.SIGKILL)
        wait_for(lambda attempt=attempt: decision(folder, attempt), folder, "a decision", after_end=True)
    assert [decision(folder, attempt) for attempt in range(3)] == ["requeue", "requeue", "end"]
    found = outcome(folder)
    assert found["state"] == "failed"
    assert found["reason"].startswith("no_progress: 3 attempts in a row saved nothing newer")
    assert found["failure"]["cause"] == "lost_peer"
    figures["attempts"] = 3

    wait_for(lambda: not in_queue(person, folder), folder, "an empty queue", after_end=True)
    assert len(jobs_of(folder)) <= 4
    assert not folder.attempt(3).folder.exists()

    # A person who goes on has the whole budget again.
    person.muster("resume", run_id)
    wait_for(lambda: folder.attempt(3).rank_log(1, 1).exists(), folder, "attempt 3", after_end=True)
    os.kill(agent_of(folder, 3), signal.SIGKILL)
    wait_for(lambda: decision(folder, 3), folder, "a decision", after_end=True)
    assert decision(folder, 3) == "requeue"
    cancel(person, folder)


def agent_of(folder: RunFolder, attempt: int) -> int:
    """The agent of the second node: it has started the rank that writes there."""
    return parent_of(process_of(folder.attempt(attempt).rank_log(1, 1)))
