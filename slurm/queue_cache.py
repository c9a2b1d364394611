"""One squeue for all of a person's watchers: its answer in a file of the person's cache folder, with its time.

The folder is the person's own and on one machine, so a lock there holds; nothing about runs rests on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from slurm.parse import Job

AGE_S = 30.0
"""An answer of that age is asked for again; Slurm's controllers suffer from people who watch."""


class QueueCache:
    """The cached answer for one cluster. `age_s` 0 asks each time."""

    def __init__(self, slurm_conf: str | None, age_s: float | None = None, folder: Path | None = None) -> None:
        asked = os.environ.get("MUSTER_SQUEUE_AGE_S", "")
        self._age_s = age_s if age_s is not None else float(asked) if asked.replace(".", "", 1).isdigit() else AGE_S
        home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        key = hashlib.sha256((slurm_conf or os.environ.get("SLURM_CONF", "")).encode()).hexdigest()[:8]
        self._path = (folder or Path(home) / "muster") / f"squeue-{key}.json"

    def jobs(self, ask: Callable[[], list[Job]]) -> list[Job]:
        """The jobs as they were at most `age_s` ago; `ask` is called where the answer is older."""
        with self._locked():
            kept = self._read()
            if kept is not None:
                return kept
            jobs = ask()
            self._write(jobs, time.time())
            return jobs

    def add(self, new: Collection[Job]) -> None:
        """Put jobs that were just submitted into the answer, so that nobody has to ask again for them."""
        ids = {job.id for job in new}
        self._change(lambda jobs: [*(other for other in jobs if other.id not in ids), *new])

    def drop(self, job_ids: Collection[str]) -> None:
        """Take jobs that were just cancelled while they waited out of the answer; those that run are ending."""
        gone = set(job_ids)
        self._change(
            lambda jobs: [
                replace(job, state="COMPLETING") if job.id in gone else job
                for job in jobs
                if job.id not in gone or not job.is_pending
            ]
        )

    def _change(self, change: Callable[[list[Job]], list[Job]]) -> None:
        with self._locked():
            kept = self._read()
            if kept is not None:
                self._write(change(kept), self._path.stat().st_mtime)

    def _read(self) -> list[Job] | None:
        try:
            age = time.time() - self._path.stat().st_mtime
            if not 0 <= age < self._age_s:
                return None
            return [Job(**fields) for fields in json.loads(self._path.read_text())]
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, jobs: list[Job], asked_at: float) -> None:
        with contextlib.suppress(OSError):
            beside = self._path.with_suffix(f".{os.getpid()}.tmp")
            beside.write_text(json.dumps([asdict(job) for job in jobs]))
            os.utime(beside, (asked_at, asked_at))
            beside.rename(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Watchers take turns, so that one asks and the others read; without lock or folder each asks for itself."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield
            return
        try:
            with contextlib.suppress(OSError):  # Lustre and NFS may be mounted without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
