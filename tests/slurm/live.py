"""Runs on a real Slurm, as a test follows them: sent by the command line, read from their folders."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.files import read_objects
from conf.layout import RunFolder
from tests.slurm.person import Person

LIMIT_S = 400.0
TINY = [
    "experiment=demo",
    "cluster=devcluster",
    "tracking=none",
    "train.eval_strategy=no",
    "train.eval_on_start=false",
]
"""A small run without evaluations; how many nodes, and how long it is, its test says."""
ONE_NODE = [*TINY, "cluster.nodes=1"]
TWO_NODES = [*TINY, "cluster.nodes=2", "cluster.ranks_per_node=1"]
ENDLESS = "train.max_steps=5000"
"""More steps than any test waits for."""


def submit(person: Person, work: Path, *overrides: str, **variables: str) -> tuple[RunFolder, str]:
    """`muster submit` from a shell with `variables`: the run's folder and id."""
    argv = [str(person.python), "-m", "muster", "submit", *overrides, "--json"]
    said = json.loads(person.run(*argv, cwd=work, **variables).stdout)
    return RunFolder(Path(said["folder"])), said["id"]


def outcome(folder: RunFolder) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(folder.outcome.read_text())
    except FileNotFoundError:
        return {}
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may still grow; a disk that was full may have left a part of one."""
    return read_objects(path)


def cancel(person: Person, folder: RunFolder) -> None:
    """Cancel a run, and wait until no job of it is left that could write into its folder."""
    person.muster("cancel", str(folder.path))
    wait_for(lambda: not in_queue(person, folder), folder, "an empty queue", after_end=True)


def in_queue(person: Person, folder: RunFolder) -> set[str]:
    """The jobs of a run that wait or run."""
    return set(person.run("squeue", "-h", "--me", "-o", "%i").stdout.split()) & set(jobs_of(folder))


def metrics(folder: RunFolder) -> list[dict[str, Any]]:
    return lines(folder.metrics)


def job_of(folder: RunFolder) -> int:
    """The job id of the newest submission."""
    return int(jobs_of(folder)[-1])


def jobs_of(folder: RunFolder) -> list[str]:
    """The job ids of all submissions, those that jobs made themselves included."""
    return [str(line["job_id"]) for line in lines(folder.submissions) if line["event"] == "sent"]


def wait_for(seen: Callable[[], object], folder: RunFolder, what: str, after_end: bool = False) -> None:
    """Come back as soon as `seen` holds; fail with the logs after `LIMIT_S`, or once the run has ended without it."""
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        stands = outcome(folder)
        # What was stopped may be resumed, and a failed attempt may have been requeued.
        over = stands.get("state") in ("failed", "done") and decision(folder, stands["attempt"]) == "end" and not seen()
        if (over and not after_end) or time.monotonic() > deadline:
            logs = [f"{path}\n{path.read_text()[-1500:]}" for path in sorted(folder.attempts.glob("*/logs/*.log"))]
            raise AssertionError(f"{what} did not happen: {outcome(folder)}\n" + "\n---\n".join(logs))
        time.sleep(0.3)


def wait_for_step(folder: RunFolder, step: int, attempt: int = 0) -> None:
    def reached() -> bool:
        return any(line["step"] >= step and line["attempt"] == attempt for line in metrics(folder))

    wait_for(reached, folder, f"step {step} of attempt {attempt}")


def wait_for_end(folder: RunFolder, state: str) -> None:
    wait_for(lambda: outcome(folder).get("state") == state, folder, f"state {state}")


def decision(folder: RunFolder, attempt: int) -> str:
    """The word after an attempt; empty while there is none."""
    path = folder.attempt(attempt).decision
    return path.read_text().strip() if path.exists() else ""


def start_now(person: Person, job: int, folder: RunFolder) -> None:
    """Spare the test the two minutes that Slurm holds a requeued job back, which only root may do.

    Not at once: nodes refuse the credential of a job that starts in the very second in which it was requeued.
    """

    def pending() -> bool:
        return person.run("squeue", "-h", "-j", str(job), "-o", "%T").stdout.strip() == "PENDING"

    deadline = time.monotonic() + LIMIT_S
    while not pending():
        assert time.monotonic() < deadline, f"job {job} did not come back into the queue"
        time.sleep(0.3)
    if os.geteuid() == 0:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+2"], check=True, env=person.environment)


def process_of(log: Path) -> int:
    """The process that writes a rank's log as its standard output."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "fd" / "1").readlink() == log:
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"nobody writes {log}")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
