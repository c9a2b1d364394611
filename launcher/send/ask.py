"""Ending a run from outside: `stop` lets it save, `cancel` does not. Both through the
file STOP; Slurm is only told to look.

A run that has not started yet has no rank to read STOP: its job leaves the queue and the outcome is written here.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping

from conf.layout import RunFolder
from conf.outcome import Outcome, State, StopReason, write_outcome
from launcher.problems import MusterError
from launcher.runs.standing import Standing, find_local, live_submissions, stand
from launcher.runs.submissions import TRAIN, Submission, read_submissions
from launcher.send import interrupts
from launcher.send.scheduler import client_of, live_jobs
from slurm.parse import Job

GRACE_S = 5.0


def stop(folder: RunFolder) -> str:
    """Ask a run to save and end; what happened, in words.

    Raises:
        MusterError: it is not running.
        SlurmError: Slurm refused.
    """
    jobs = live_jobs([folder])
    standing = stand(folder, jobs)
    name = standing.plan.run_id
    if not standing.live:
        raise MusterError(_not_running(standing))
    if not folder.stop.exists():
        interrupts.write_stop(folder, StopReason.stopped)
    alive = live_submissions(folder, jobs)
    if not alive:
        return f"{name} saves and ends{_unasked(folder, jobs)}; watch: muster status {name}"
    client, first = client_of(standing.plan), alive[0]
    waits = jobs is not None and jobs[first.job_id].is_pending
    if waits or first.purpose != TRAIN:
        # Nothing has been trained in this attempt that could be saved.
        _cancel_all(standing, alive)
        _write_end(folder, standing, State.stopped, "stopped before it started")
        return f"{name} left the queue (job {first.job_id})"
    _cancel_all(standing, alive[1:])
    # A shared folder may show STOP a minute late on the head node; the batch shell writes it there itself when poked.
    client.signal(first.job_id, "USR2", batch=True)
    return f"{name} saves and ends (job {first.job_id}); watch: muster status {name}"


def cancel(folder: RunFolder) -> str:
    """End a run now; what happened, in words.

    Raises:
        MusterError: it is not running.
        SlurmError: Slurm refused.
    """
    jobs = live_jobs([folder])
    standing = stand(folder, jobs)
    if not standing.live:
        raise MusterError(_not_running(standing))
    # Before the signal, so that whoever decides on a requeue finds the word.
    interrupts.write_stop(folder, StopReason.cancelled)
    alive = live_submissions(folder, jobs)
    if alive:
        _cancel_all(standing, alive)
        _write_end(folder, standing, State.cancelled, f"cancelled (job {alive[0].job_id})")
        return f"{standing.plan.run_id} is cancelled (job {alive[0].job_id})"
    unasked = _unasked(folder, jobs)
    if unasked:
        return f"{standing.plan.run_id} ends{unasked}; the same command again takes its jobs out of the queue"
    _end_agent(folder)
    _write_end(folder, standing, State.cancelled, "cancelled")
    return f"{standing.plan.run_id} is cancelled"


def _unasked(folder: RunFolder, jobs: Mapping[str, Job] | None) -> str:
    """What is said where Slurm could not be asked: the word in STOP does its work without it, only later."""
    return (
        " as soon as its job sees STOP (Slurm could not be asked)" if jobs is None and read_submissions(folder) else ""
    )


def _cancel_all(standing: Standing, submissions: list[Submission]) -> None:
    """scancel each of the jobs; those that wait for another one first, so that it does not let them start."""
    client = client_of(standing.plan)
    for sent in reversed(submissions):
        client.cancel(sent.job_id)


def _end_agent(folder: RunFolder) -> None:
    """SIGTERM to the local agent, which ends its ranks; SIGKILL where that is not enough."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = find_local(folder)
        if pid is None:
            return
        interrupts.end_group(pid, number)
        deadline = time.monotonic() + GRACE_S
        while find_local(folder) is not None and time.monotonic() < deadline:
            time.sleep(0.05)


def _write_end(folder: RunFolder, standing: Standing, state: State, reason: str) -> None:
    """The outcome, where no rank is left to write it. `step` keeps what an earlier attempt saved."""
    before = standing.outcome
    if before is not None and before.state is State.done:
        return  # what ended was only an export
    with contextlib.suppress(FileNotFoundError):
        write_outcome(
            folder.outcome,
            Outcome(
                state=state,
                reason=reason,
                step=before.step if before else 0,
                attempt=standing.attempt if standing.attempt is not None else 0,
                time=time.time(),
                checkpoint=before.checkpoint if before else None,
            ),
        )


def _not_running(standing: Standing) -> str:
    name, reason = standing.plan.run_id, f" ({standing.reason})" if standing.reason else ""
    return f"{name} is not running: {standing.state.value}{reason}; nothing to end"
