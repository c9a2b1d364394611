"""Row 10: the job's time is nearly up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.timing import MARGIN_S
from tests.slurm.live import (
    ENDLESS,
    ONE_NODE,
    TWO_NODES,
    cancel,
    decision,
    in_queue,
    job_of,
    jobs_of,
    lines,
    metrics,
    outcome,
    start_now,
    submit,
    wait_for,
    wait_for_end,
)  # fmt: skip
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]


def steps_of(folder: RunFolder, attempt: int) -> list[int]:
    return [line["step"] for line in metrics(folder) if line["attempt"] == attempt and "train/loss" in line]


@pytest.mark.fault(10)
def test_slurms_warning_before_the_first_save(person: Person, figures: dict[str, Any]) -> None:
    """Nothing was measured yet: the warning makes it save and go back into the queue, where it goes on and ends."""
    folder, _ = submit(person, person.home, *TWO_NODES, "name=warned", "train.max_steps=16", "checkpoint.save_steps=0")
    wait_for(lambda: len(steps_of(folder, 0)) >= 3, folder, "three steps")
    job = job_of(folder)
    person.run("scancel", "--batch", "--signal=USR1", str(job))
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert (decision(folder, 0), outcome(folder)["state"]) == ("requeue", "time_limit")
    saved = outcome(folder)["step"]
    figures["steps_lost"] = steps_of(folder, 0)[-1] - saved
    start_now(person, job, folder)
    wait_for_end(folder, "done")
    assert steps_of(folder, 0) + steps_of(folder, 1) == list(range(1, 17))
    assert json.loads(folder.timing.read_text())["save_s"] > 0


@pytest.mark.fault(10)
@pytest.mark.long
def test_rank_0_stops_when_a_save_just_fits(person: Person, figures: dict[str, Any]) -> None:
    """A warning two minutes before the end is not needed once a save was measured: training goes on meanwhile."""
    limit = ["cluster.time='00:04:00'", "cluster.signal_lead_s=100", "cluster.continuation=chain"]
    words = [*TWO_NODES, *limit, "name=limit", ENDLESS, "checkpoint.save_steps=5"]
    folder, _ = submit(person, person.home, *words)
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert (decision(folder, 0), outcome(folder)["state"]) == ("requeue", "time_limit")
    log = folder.attempt(0).job_log.read_text()
    assert "the time limit is near; rank 0 stops" in log
    (begun,) = [line["time"] for line in lines(folder.events) if line["event"] == "attempt_started"]
    ended = next(line["time"] for line in lines(folder.events) if line["event"] == "attempt_ended")
    figures["used_s_of_240"] = round(ended - begun)
    assert 240 - 100 < ended - begun < 240 - MARGIN_S / 2
    saved, last = outcome(folder)["step"], steps_of(folder, 0)[-1]
    figures["steps_lost"] = last - saved
    wait_for(lambda: steps_of(folder, 1), folder, "the next job of the chain")
    assert steps_of(folder, 1)[0] == saved + 1 == last + 1
    # What was measured is known from the start of the next attempt on.
    assert folder.attempt(1).lead.exists()
    cancel(person, folder)


@pytest.mark.fault(10)
def test_submit_says_when_a_save_will_not_fit(person: Person) -> None:
    """On the real cluster's own words: GraceTime=30 of its partition against what was measured of this run root."""
    slow = person.home / "slow" / "earlier-00000000"
    slow.mkdir(parents=True)
    for made in (slow, slow.parent):
        shutil.chown(made, person.uid, person.gid)
    (slow / "timing.json").write_text(json.dumps({"pause_s": 1.0, "save_s": 3000.0, "save_bytes": 1 << 30}))
    words = [*TWO_NODES, "cluster.partition=preempt", "checkpoint.save_steps=7", "train.max_steps=50", "run_root=slow"]
    said = person.muster("plan", *words)
    assert "a save of 0.015 GB at 0.00036 GB/s (measured in earlier-00000000) takes 42 s" in " ".join(said.split())
    assert "the grace of partition preempt is 30 s" in " ".join(said.split())
    assert "at most checkpoint.save_steps=7 steps are lost" in " ".join(said.split())
    assert not list(Path(slow.parent).glob("demo*"))


@pytest.mark.fault(10)
@pytest.mark.long
def test_an_element_of_an_array_goes_on_as_a_job_of_its_own(person: Person) -> None:
    """In a chain: the sweep follows its points to their own jobs, and cancel finds them there."""
    words = [*ONE_NODE, "name=swept", "run_root=swept", "cluster.continuation=chain"]
    words += ["checkpoint.save_steps=0", "checkpoint.export=never", "-m", "train.seed=1,2", "train.max_steps=40"]
    person.muster("submit", *words)
    runs = [RunFolder(path.parent) for path in sorted((person.home / "swept").glob("*/run.json"))]
    assert len(runs) == 2
    first, second = runs
    for run in runs:
        wait_for(lambda run=run: steps_of(run, 0), run, "a first step")
        assert [job.count("_") for job in jobs_of(run)] == [1, 0]
    person.run("bash", "-c", f"echo time_limit >'{first.stop}'")
    for run in runs:
        wait_for_end(run, "done")
    assert json.loads(first.attempt(1).job.read_text())["job_id"] == jobs_of(first)[1]
    assert not second.attempt(1).folder.exists()
    assert steps_of(first, 0) + steps_of(first, 1) == list(range(1, 41))
    status = json.loads(person.muster("sweep", "status", "--run-root", "swept", "--json"))
    assert [point["state"] for point in status["points"]] == ["done", "done"]
    for run in runs:
        wait_for(lambda run=run: not in_queue(person, run), run, "an empty queue", after_end=True)
