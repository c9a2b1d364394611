"""Row 9: a job of higher priority takes the nodes: with and without the user's signal, requeued and cancelled."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from slurm.devcluster import Record
from tests.slurm.live import (
    ENDLESS,
    ONE_NODE,
    cancel,
    decision,
    job_of,
    jobs_of,
    lines,
    metrics,
    outcome,
    start_now,
    submit,
    wait_for,
    wait_for_step,
)
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]

RUN = [
    *ONE_NODE,
    ENDLESS,
    "cluster.nodelist=node4",
    "tracking=wandb",
    "tracking.mode=offline",
]
HOG = ["--partition=main", "--nodes=1", "--nodelist=node4", "--exclusive", "--time=1", "--output=/dev/null"]


@pytest.fixture
def user_signal(devcluster: Record) -> Iterator[None]:
    """A site where preemption sends the signal of `sbatch --signal` instead of SIGTERM."""
    conf, before = devcluster.slurm_conf, devcluster.slurm_conf.read_text()
    conf.write_text(f"{before}SlurmctldParameters=preempt_send_user_signal\n")
    try:
        reconfigure(devcluster)
        yield
    finally:
        conf.write_text(before)
        reconfigure(devcluster)


@pytest.mark.fault(9)
def test_cancelled_by_preemption_goes_on_in_the_next_job(
    person: Person, figures: dict[str, Any], tmp_path: Path
) -> None:
    """PreemptMode=CANCEL: `auto` makes a chain, whose next job is there before the preemption, and needs no requeue."""
    folder, first = preempted(person, "preempt_cancel", "cancel", figures)
    assert "continuation=chain" in folder.job.settings.read_text()
    after = [line for line in lines(folder.submissions) if line.get("after") == first and line["event"] == "sent"]
    assert len(after) == 1
    goes_on(person, folder, figures)
    assert after[0]["job_id"] == folder.attempt(1).job.read_text().split('"job_id": "')[1].split('"')[0]


@pytest.mark.fault(9)
@pytest.mark.long
def test_requeued_by_preemption(person: Person, figures: dict[str, Any]) -> None:
    """PreemptMode=REQUEUE: the same job comes back."""
    folder, first = preempted(person, "preempt", "requeue", figures)
    assert "continuation=requeue" in folder.job.settings.read_text()
    start_now(person, int(first), folder)
    goes_on(person, folder, figures)
    assert job_of(folder) == int(first)


@pytest.mark.fault(9)
@pytest.mark.long
@pytest.mark.parametrize("partition", ["preempt", "preempt_cancel"])
def test_with_the_users_signal(partition: str, user_signal: None, person: Person, figures: dict[str, Any]) -> None:
    """What says that the time limit is near says at such sites that others want the nodes: Slurm is asked which."""
    folder, first = preempted(person, partition, f"signal-{partition.replace('_', '-')}", figures)
    if partition == "preempt":
        start_now(person, int(first), folder)
    goes_on(person, folder, figures)


def preempted(person: Person, partition: str, name: str, figures: dict[str, Any]) -> tuple[RunFolder, str]:
    """A run that has saved once and is then preempted: its folder and job, once it is decided what comes next."""
    words = [*RUN, f"name={name}", f"cluster.partition={partition}", "checkpoint.save_steps=4"]
    folder, _ = submit(person, person.home, *words)
    first = jobs_of(folder)[0]
    wait_for(lambda: folder.attempt(0).lead.exists(), folder, "a measured save")
    wait_for_step(folder, 6)
    asked = time.time()
    hog = person.run("sbatch", "--parsable", *HOG, "--wrap=exit 0").stdout.strip()
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert hog.isdigit()
    assert (decision(folder, 0), outcome(folder)["state"]) == ("requeue", "preempted")
    ended = next(line["time"] for line in lines(folder.events) if line["event"] == "attempt_ended")
    figures["noticed_s"] = round(ended - asked, 1)
    return folder, first


def goes_on(person: Person, folder: RunFolder, figures: dict[str, Any]) -> None:
    """The next attempt goes on with the very next step, in the same W&B run; then it is cancelled."""
    saved = outcome(folder)["step"]
    last = max(line["step"] for line in metrics(folder) if line["attempt"] == 0 and "train/loss" in line)
    wait_for_step(folder, saved + 2, attempt=1)
    steps = [line["step"] for line in metrics(folder) if line["attempt"] == 1 and "train/loss" in line]
    figures["steps_lost"] = last - saved
    begun = next(
        line["time"] for line in lines(folder.events) if line["event"] == "attempt_started" and line["attempt"]
    )
    figures["again_s"] = round(next(line["time"] for line in metrics(folder) if line["attempt"] == 1) - begun, 1)
    assert steps[0] == saved + 1 == last + 1
    cancel(person, folder)
    ids = {path.name.rpartition("-")[2] for path in (folder.wandb / "wandb").glob("offline-run-*")} or {
        path.name.rpartition("-")[2] for path in folder.wandb.rglob("offline-run-*") if path.is_dir()
    }
    assert len(ids) == 1


def reconfigure(devcluster: Record) -> None:
    subprocess.run(
        ["scontrol", "reconfigure"], check=True, env={"SLURM_CONF": str(devcluster.slurm_conf), "PATH": PATH}
    )


PATH = "/usr/local/bin:/usr/bin:/bin"
