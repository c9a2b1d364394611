"""Pushing runs' metrics to W&B from this machine: the processes that do it, and how long they go on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from conf.layout import RunFolder
from conf.record import read_plan
from launcher.problems import MusterError
from launcher.runs.read import read_lines
from launcher.runs.rundir import require_safe
from launcher.runs.standing import ENDED, stand
from launcher.send.child import rank_argv
from launcher.send.interrupts import NUMBERS, handled
from launcher.send.scheduler import live_jobs

LOOK_S = 5.0
MOST_FOLLOWED = 8
"""Runs that are followed at a time: each has a process of its own, with W&B's SDK in it."""


def push(folders: Sequence[RunFolder], follow: bool) -> int:
    """Replay the metrics of runs in the Python of their ranks, where W&B's SDK is; the highest of the exit statuses.

    One after the other; with `follow` all at once, each until its run has ended.

    Raises:
        MusterError: a run's code is not safe to use or is a person's own program, runs mirror themselves, that Python
            cannot be started, or too many are to be followed.
    """
    for folder in folders:
        require_safe(folder)
        if read_plan(folder.run_json).script is not None:
            what = f"{folder.path.name} runs a program of your own, which writes to W&B itself"
            raise MusterError(f"{what}: `wandb sync {folder.wandb}/offline-run-*` sends what it wrote offline")
    mirrored = _mirrored(folders)
    if mirrored:
        rule = "tracked online, and a push beside that would write over it; push what has ended"
        raise MusterError(f"{', '.join(mirrored)}: {rule}")
    if follow and len(folders) > MOST_FOLLOWED:
        rule = f"at most {MOST_FOLLOWED} can be followed at once; push them without -f"
        raise MusterError(f"{len(folders)} runs: {rule}")
    groups = [list(folders)] if follow else [[folder] for folder in folders]
    return max((_push(group, follow) for group in groups), default=0)


def _mirrored(folders: Sequence[RunFolder]) -> list[str]:
    """The runs whose newest attempt has a tracker online, as far as is known."""
    tracked = {folder: attempt for folder in folders if (attempt := _last_tracked(folder)) is not None}
    jobs = live_jobs(tracked)
    standings = [stand(folder, jobs) for folder in tracked]
    return [
        f"{one.plan.run_id} ({one.state.value}{one.reason and f': {one.reason}'})"
        for one in standings
        if one.live and one.state not in ENDED and one.attempt == tracked[one.folder]
    ]


def _last_tracked(folder: RunFolder) -> int | None:
    """The newest attempt that was tracked online."""
    told = (line.get("attempt") for line in read_lines(folder.events) if line.get("event") == "tracked")
    return max((attempt for attempt in told if isinstance(attempt, int)), default=None)


def _push(folders: Sequence[RunFolder], follow: bool) -> int:
    with _started(folders, follow) as processes:
        followed = dict(zip(processes, folders, strict=True)) if follow else {}

        def end(_number: int) -> None:
            """The first signal ends following with what is there, the next one ends all."""
            for process in processes:
                _close(process) if process in followed else process.terminate()
            followed.clear()

        with handled(NUMBERS, end):
            while True:
                for process in set(processes) - followed.keys():
                    _close(process)
                if _all_end(processes, LOOK_S):
                    break
                for process, folder in list(followed.items()):
                    if not stand(folder, live_jobs([folder])).live:
                        followed.pop(process, None)
    # A process that a signal ended has a negative one.
    return max((process.returncode if process.returncode >= 0 else 1 for process in processes), default=0)


@contextmanager
def _started(folders: Sequence[RunFolder], follow: bool) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for folder in folders:
            argv = [*rank_argv(folder, "push"), *(["--follow"] if follow else [])]
            try:
                processes.append(subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True))
            except OSError as error:
                raise MusterError(f"cannot start {argv[0]}: {error.strerror}") from error
        yield processes
    finally:
        for process in processes:
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _all_end(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> bool:
    """Whether all have ended within so many seconds."""
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
    return True
