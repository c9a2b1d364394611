"""`submissions.jsonl`: what was sent to Slurm for a run, written before and after each sbatch, here and by its jobs.

A line says what is about to be sent or what came of it, so that a submission that broke off in between is seen and
nothing is sent twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conf.layout import RunFolder
from launcher.runs.read import read_lines

TRAIN, PREPARE, EXPORT = "train", "prepare", "export"


@dataclass(frozen=True)
class Submission:
    """A job that Slurm took: `123`, or `123_4` for an element of a sweep's array.

    `after` is the job of the run that sent it, to go on after itself (`cluster.continuation=chain`).
    """

    job_id: str
    purpose: str
    time: float
    after: str = ""


def write_line(folder: RunFolder, event: str, purpose: str, **values: object) -> None:
    """Append one line, flushed to the disk: `sending`, `sent` with `job_id`, or `refused`."""
    append_line(folder.submissions, {"event": event, "purpose": purpose, **values})


def append_line(path: Path, values: Mapping[str, object]) -> None:
    """Append an object with the time to a JSON-lines file in a single write, flushed to the disk."""
    line = json.dumps({"time": round(time.time(), 3), **values}) + "\n"
    mode = path.parent.stat().st_mode & 0o666
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_submissions(folder: RunFolder) -> list[Submission]:
    """The jobs of a run, oldest first."""
    return [
        Submission(
            str(line["job_id"]),
            str(line.get("purpose", TRAIN)),
            float(line.get("time", 0.0)),
            str(line.get("after", "")),
        )
        for line in read_lines(folder.submissions)
        if line.get("event") == "sent" and isinstance(line.get("job_id"), str | int)
    ]


def unanswered(folder: RunFolder, purpose: str) -> float | None:
    """When the last `sending` of a purpose was written, if nothing says what came of it."""
    since: float | None = None
    for line in read_lines(folder.submissions):
        if line.get("purpose") == purpose:
            since = float(line.get("time", 0.0)) if line.get("event") == "sending" else None
    return since
