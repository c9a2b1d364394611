"""Row 12: `muster stop`, `muster cancel`, plain scancel: the right state, and nobody goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.slurm.live import (
    ENDLESS,
    ONE_NODE,
    decision,
    in_queue,
    jobs_of,
    metrics,
    outcome,
    submit,
    wait_for,
    wait_for_step,
)
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]

STATES = {"stop": "stopped", "cancel": "cancelled", "scancel": "cancelled"}


@pytest.mark.fault(12)
@pytest.mark.parametrize("continuation", ["chain", pytest.param("requeue", marks=pytest.mark.long)])
def test_ended_and_not_again(continuation: str, person: Person, figures: dict[str, Any]) -> None:
    """Three runs at once, each ended in its own way; of a chain the job that waits goes too."""
    runs = {}
    for how in STATES:
        words = [*ONE_NODE, ENDLESS, f"name={how}-{continuation}", f"cluster.continuation={continuation}"]
        runs[how], _ = submit(person, person.home, *words)
    for folder in runs.values():
        wait_for_step(folder, 2)
    for how, folder in runs.items():
        assert len(jobs_of(folder)) == (2 if continuation == "chain" else 1)
        end = ["scancel", jobs_of(folder)[0]] if how == "scancel" else [*person.program, how, str(folder.path)]
        person.run(*end)
    for how, folder in runs.items():
        wait_for(lambda folder=folder: outcome(folder).get("state"), folder, f"the end after {how}")
        wait_for(lambda folder=folder: not in_queue(person, folder), folder, "an empty queue", after_end=True)
        assert outcome(folder)["state"] == STATES[how]
        (status,) = json.loads(person.muster("status", str(folder.path), "--json"))
        assert (status["state"], status["live"]) == (STATES[how], False)
        assert [path.name for path in folder.attempts.iterdir()] == ["0"]
        assert decision(folder, 0) in ("", "end")
    saved, last = outcome(runs["stop"])["step"], [line["step"] for line in metrics(runs["stop"])][-1]
    figures["steps_lost"] = last - saved
    assert saved == last


@pytest.mark.fault(12)
def test_ended_while_it_waits(person: Person) -> None:
    """A job that never started leaves the queue; nothing is left that would start it."""
    states = {}
    for how in ("stop", "cancel"):
        folder, _ = submit(person, person.home, *ONE_NODE, ENDLESS, f"name=held-{how}", "+cluster.sbatch.hold=true")
        person.muster(how, str(folder.path))
        states[how] = outcome(folder)["state"]
        assert not in_queue(person, folder)
        assert not folder.attempts.exists()
    assert states == {"stop": "stopped", "cancel": "cancelled"}
