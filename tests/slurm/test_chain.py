"""A chain of jobs on a real Slurm, by the job script alone: the next one waits, goes on, or finds nothing to do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from conf.layout import RunFolder
from slurm.devcluster import Record
from tests.slurm.by_hand import Job, make_by_hand, wait_for
from tests.slurm.live import lines
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]

EXPORT = """\
#!/bin/bash
#SBATCH --output=/dev/null
touch "{folder}/exported"
"""


@pytest.fixture
def make_chain(person: Person, devcluster: Record, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    monkeypatch.setenv("SLURM_CONF", str(devcluster.slurm_conf))

    def make(name: str, more: str = "") -> Job:
        job = make_by_hand(person, devcluster, name, continuation="chain", more=more)
        job.submit()
        job.attempt_runs(0)
        return job

    return make


def next_of(job: Job, job_id: str) -> str:
    """The job that was sent to go on after one; waits until it was."""
    found: list[dict[str, Any]] = []

    def sent() -> bool:
        found[:] = [line for line in lines(job.folder.submissions) if line.get("after") == job_id]
        return any(line["event"] == "sent" for line in found)

    wait_for(sent, f"a job after {job_id}\n{job.log(0)}")
    assert [line["event"] for line in found] == ["sending", "sent"]
    return str(found[-1]["job_id"])


def stop(job: Job, word: str) -> None:
    job.person.run("bash", "-c", f"echo {word} >'{job.folder.stop}'")


def no_job_is_left(job: Job) -> None:
    mine = {str(line["job_id"]) for line in lines(job.folder.submissions)} | {job.id}
    wait_for(lambda: not mine & set(job.person.run("squeue", "-h", "-o", "%i").stdout.split()), "an empty queue")


def outcome(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.outcome.read_text())
    return found


def test_the_next_job_goes_on_and_the_last_one_is_not_needed(make_chain: Callable[..., Job]) -> None:
    job = make_chain("goes on")
    second = next_of(job, job.id)
    waiting = job.person.run("squeue", "-h", "-j", second, "-o", "%T %r").stdout.split()
    assert waiting == ["PENDING", "Dependency"]
    stop(job, "time_limit")
    job.attempt_runs(1)
    records = [json.loads(job.folder.attempt(number).job.read_text()) for number in (0, 1)]
    assert [(one["job_id"], one["since"]) for one in records] == [(job.id, 0), (second, 0)]
    third = next_of(job, second)
    job.poke("FINISH")
    no_job_is_left(job)
    assert f"job {third} is not needed" in job.log(1)
    assert not job.folder.attempt(2).folder.exists()
    assert not job.folder.lock.exists()
    environment = (job.folder.attempt(1).folder / "env0").read_text().splitlines()
    assert "KEPT_ONE=yes" in environment  # what is allowed to pass goes on from job to job
    assert not [line for line in environment if line.startswith("SECRET")]
    names = {line.partition("=")[0] for line in environment}
    assert {name for name in names if name.startswith(("SLURM", "SBATCH"))} <= {"SLURM_CONF"}


def test_scancel_ends_the_chain(make_chain: Callable[..., Job]) -> None:
    job = make_chain("cancelled chain")
    next_of(job, job.id)
    job.client.cancel(job.id)
    no_job_is_left(job)
    assert outcome(job.folder)["state"] == "cancelled"
    assert not job.folder.attempt(1).folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill the other user's shells")
def test_a_batch_shell_that_dies_without_a_word_is_followed(make_chain: Callable[..., Job]) -> None:
    """As when the head node dies: nobody could decide, and the next job goes on."""
    job = make_chain("dies")
    second = next_of(job, job.id)
    os.kill(json.loads(job.folder.attempt(0).job.read_text())["pid"], signal.SIGKILL)
    job.attempt_runs(1)
    assert job.folder.lock.read_text() == f"slurm:{second}\n"
    job.poke("FINISH")
    no_job_is_left(job)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill the other user's shells")
def test_a_job_that_was_cancelled_without_a_word_is_not_followed(make_chain: Callable[..., Job]) -> None:
    """The shell dies while it is cancelled, so that it cannot take the next job out of the queue."""
    job = make_chain("hangs")
    second = next_of(job, job.id)
    shell = json.loads(job.folder.attempt(0).job.read_text())["pid"]
    job.client.cancel(job.id)
    os.kill(shell, signal.SIGKILL)
    no_job_is_left(job)
    said = (job.folder.path / f"slurm-{second}.log").read_text()
    assert f"nothing to do: job {job.id} was cancelled" in said
    assert outcome(job.folder)["state"] == "cancelled"
    assert not job.folder.attempt(1).folder.exists()


def test_a_person_who_goes_on_first_wins(make_chain: Callable[..., Job]) -> None:
    """The chain's next job finds the run in other hands."""
    job = make_chain("other hands")
    second = next_of(job, job.id)
    job.person.run("scontrol", "hold", second)
    stop(job, "time_limit")
    wait_for(lambda: (job.folder.attempt(0).decision).exists(), "a decision")
    first, job.id = job.id, ""
    job.submit()
    job.attempt_runs(1)
    job.person.run("scontrol", "release", second)
    said = job.folder.path / f"slurm-{second}.log"
    wait_for(lambda: said.exists() and "nothing to do" in said.read_text(), "the other job's word")
    assert f"nothing to do: attempt 1 is not of job {first}" in said.read_text()
    assert json.loads(job.folder.attempt(1).job.read_text())["since"] == 1
    job.poke("FINISH")
    no_job_is_left(job)


def test_a_budget_bounds_the_chain(make_chain: Callable[..., Job]) -> None:
    job = make_chain("bounded", more="max_requeues=1\n")
    for attempt in (0, 1):
        job.attempt_runs(attempt)
        next_of(job, json.loads(job.folder.attempt(attempt).job.read_text())["job_id"])
        stop(job, "time_limit")
    wait_for(lambda: job.folder.outcome.exists(), "the end")
    no_job_is_left(job)
    assert outcome(job.folder)["reason"] == "the budget of max_requeues=1 is used up"
    assert not (job.folder.attempt(2).folder / "env0").exists()
    assert not job.folder.lock.exists()


def test_the_export_comes_after_the_last_job(make_chain: Callable[..., Job]) -> None:
    job = make_chain("exports", more="export=after\n")
    job.folder.job.export_sbatch.write_text(EXPORT.format(folder=job.folder.path))
    job.folder.job.export_sbatch.chmod(0o644)
    next_of(job, job.id)
    stop(job, "time_limit")
    job.attempt_runs(1)
    assert not (job.folder.path / "exported").exists()
    done = json.dumps({"state": "done", "reason": "", "step": 1, "attempt": 1, "time": 1})
    job.folder.outcome.write_text(f"{done}\n")
    job.poke("FINISH")
    wait_for((job.folder.path / "exported").exists, f"the export\n{job.log(1)}")
    assert [line["purpose"] for line in lines(job.folder.submissions)][-1] == "export"
