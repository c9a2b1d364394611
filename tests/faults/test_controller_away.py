"""Rows 22 and 25: Slurm's controller is away when it is asked, and the shells that submitted and watched die."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from slurm.devcluster import Record
from slurm.devcluster.faults import kill_controller, restore_controller
from tests.slurm.live import (
    ENDLESS,
    ONE_NODE,
    cancel,
    decision,
    jobs_of,
    lines,
    outcome,
    submit,
    wait_for,
    wait_for_end,
    wait_for_step,
)
from tests.slurm.person import Person

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill the controller of root's devcluster"),
]


@pytest.fixture
def tiny(devcluster: Record) -> list[str]:
    """A run whose cluster is named by its slurm.conf, as a site's is: a devcluster without a controller is none."""
    return [*ONE_NODE, f"cluster.slurm_conf={devcluster.slurm_conf}"]


@pytest.fixture
def long(tiny: list[str]) -> list[str]:
    return [*tiny, ENDLESS]


SAVED_S = 6.0
"""slurmctld writes down what changed within 5 s; what a killed one has not written, Slurm does not know afterwards."""


@contextlib.contextmanager
def away(devcluster: Record, seconds: float) -> Iterator[None]:
    """The controller is gone for some seconds from here on; it is back when the block has ended."""
    folder = Path(devcluster.folder)
    kill_controller(folder)
    timer = threading.Timer(seconds, lambda: restore_controller(folder))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.long
@pytest.mark.fault(22)
def test_away_at_submit(person: Person, devcluster: Record, tiny: list[str], figures: dict[str, Any]) -> None:
    """Asked again until it is back: one job in the end."""
    with away(devcluster, 12):
        began = time.monotonic()
        other, _ = submit(person, person.home, *tiny, "name=late", "train.max_steps=4")
        figures["submitted_after_s"] = round(time.monotonic() - began, 1)
    assert len([line for line in lines(other.submissions) if line["event"] == "sent"]) == 1
    names = person.run("squeue", "-h", "--me", "--states=all", "-o", "%o").stdout.splitlines()
    assert names.count(str(other.job_sbatch)) == 1
    wait_for_end(other, "done")


@pytest.mark.long
@pytest.mark.fault(22)
@pytest.mark.fault(25)
def test_status_from_files(person: Person, devcluster: Record, long: list[str], figures: dict[str, Any]) -> None:
    """While the controller is gone the run goes on, and status tells from its files."""
    folder, run_id = submit(person, person.home, *long, "name=alone")
    wait_for_step(folder, 1)
    time.sleep(SAVED_S)
    kill_controller(Path(devcluster.folder))
    try:
        began = time.monotonic()
        (status,) = json.loads(person.muster("status", run_id, "--json"))
        figures["status_after_s"] = round(time.monotonic() - began, 1)
        assert (status["state"], status["reason"]) == ("running", "Slurm could not be asked")
        step = status["step"]
        wait_for_step(folder, step + 3)
    finally:
        restore_controller(Path(devcluster.folder))
    cancel(person, folder)


@pytest.mark.long
@pytest.mark.fault(22)
@pytest.mark.parametrize("continuation", ["requeue", "chain"])
def test_away_when_a_run_goes_on(continuation: str, person: Person, devcluster: Record, long: list[str]) -> None:
    """Gone when the next job is sent, or the job is put back: asked again until it is done, once."""
    words = [*long, f"name=goes-on-{continuation}", f"cluster.continuation={continuation}", "checkpoint.save_steps=0"]
    folder, _ = submit(person, person.home, *words)
    wait_for_step(folder, 2)
    time.sleep(SAVED_S)
    first = jobs_of(folder)[0]
    with away(devcluster, 20):
        person.run("bash", "-c", f"echo time_limit >'{folder.stop}'")
        wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert decision(folder, 0) == "requeue"
    if continuation == "requeue":
        wait_for(lambda: restarts(person, first) == 1, folder, "one requeue")
    else:
        wait_for_step(folder, outcome(folder)["step"] + 1, attempt=1)
        after = [line for line in lines(folder.submissions) if line.get("after") == first and line["event"] == "sent"]
        assert len(after) == 1
    cancel(person, folder)


@pytest.mark.fault(25)
@pytest.mark.long
def test_the_shells_die(person: Person) -> None:
    """SIGKILL to `submit -m` right after its first sbatch, and to watchers: the same command goes on, runs finish."""
    work = person.home / "shell"
    work.mkdir()
    shutil.chown(work, person.uid, person.gid)
    words = [*ONE_NODE, "name=swept", "train.max_steps=6", "sweep.max_array_size=1", "-m", "train.seed=1,2"]
    command = [*person.program, "submit", *words]
    shell = in_own_group(person, command, work)
    sent = work / "runs"

    def jobs() -> list[str]:
        runs = [RunFolder(path.parent) for path in sent.glob("*/submissions.jsonl")]
        return [job for run in runs for job in jobs_of(run)]

    deadline = time.monotonic() + 120
    while not jobs():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    person.run(*command, cwd=work)
    runs = [RunFolder(path.parent) for path in sent.glob("*/submissions.jsonl")]
    assert len(runs) == 2
    for run in runs:  # one of them may have a job for the data of both before its own
        purposes = [line["purpose"] for line in lines(run.submissions) if line["event"] == "sent"]
        assert purposes.count("train") == 1

    watchers = [
        in_own_group(person, [*person.program, *watch], work)
        for watch in (["status", "-w"], ["logs", str(runs[0].path), "-f"])
    ]
    wait_for(lambda: runs[0].metrics.exists(), runs[0], "a first step")
    for watcher in watchers:
        if watcher.poll() is None:
            os.killpg(watcher.pid, signal.SIGKILL)
        watcher.wait()
    for run in runs:
        wait_for_end(run, "done")
        jobs_made = [json.loads(path.read_text()) for path in run.attempts.glob("*/job.json")]
        assert [job["verb"] for job in jobs_made].count("agent") == 1


def in_own_group(person: Person, command: list[str], work: Path) -> subprocess.Popen[bytes]:
    """A command of the person's in a terminal session of its own, as a login shell starts it."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command,
        cwd=work,
        env=person.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **person.identity,
    )


def restarts(person: Person, job: str) -> int:
    shown = person.run("scontrol", "-o", "show", "job", job, check=False).stdout
    return next((int(word.partition("=")[2]) for word in shown.split() if word.startswith("Restarts=")), 0)
