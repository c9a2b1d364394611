"""How a run stands: from its own files first, with Slurm and the process table as witnesses."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from conf.layout import Attempt, RunFolder
from conf.outcome import Outcome, State, read_outcome
from conf.record import Plan
from launcher.runs.read import Line, finite, list_attempts, number, read_job
from launcher.runs.reading import Reading
from launcher.runs.submissions import EXPORT, PREPARE, TRAIN, Submission, read_submissions
from launcher.send import local
from slurm.parse import Job

_PURPOSES = (TRAIN, PREPARE, EXPORT)
_DOING = {PREPARE: "preparing data", EXPORT: "exporting"}
ENDED = frozenset({State.done, State.stopped, State.cancelled, State.failed})


@dataclass(frozen=True)
class Standing:
    """One run at one moment.

    `job` is the job that owns the run (`slurm:123`, `local:456`) while it is queued or running, else the last one.
    `live` says whether something of it still runs or waits, `wordless` that it ended without an outcome. Numbers are
    None before the first line of metrics. `nodes` are the names of those it runs on, or last ran on; `starts` is when
    Slurm expects a waiting job to start, in its own words, where it knows; `waits_for` its own word on why it waits.
    """

    folder: RunFolder
    plan: Plan
    state: State
    reason: str
    live: bool
    job: str
    attempt: int | None
    step: int
    total_steps: int | None
    loss: float | None
    tokens_per_second: float | None
    eta_s: float | None
    since: float
    outcome: Outcome | None
    wordless: bool = False
    nodes: str = ""
    starts: str = ""
    waits_for: str = ""

    def as_json(self) -> Line:
        """The standing as flat JSON, for `--json`."""
        eta_s = finite(self.eta_s)
        return {
            "id": self.plan.run_id,
            "folder": str(self.folder.path),
            "state": self.state.value,
            "reason": self.reason,
            "live": self.live,
            "job": self.job,
            "attempt": self.attempt,
            "step": self.step,
            "total_steps": self.total_steps,
            "loss": finite(self.loss),
            "tokens_per_second": finite(self.tokens_per_second),
            "eta_s": round(eta_s, 1) if eta_s is not None else None,
            "since": self.since,
            "nodes": self.nodes,
            "starts": self.starts,
        }


@dataclass(frozen=True)
class _Verdict:
    state: State
    reason: str
    live: bool
    job: str
    wordless: bool = False
    slurm: Job | None = None


def stand(folder: RunFolder, jobs: Mapping[str, Job] | None, reading: Reading | None = None) -> Standing:
    """How a run stands.

    `jobs` are the live jobs that Slurm knows, by id; None where it could not be asked, and then the files alone speak.
    `reading` is what a watcher knows of the run's files already; it takes what is new.

    Raises:
        FileNotFoundError, ValueError: the folder's run.json is missing or cannot be read.
    """
    reading = reading or Reading(folder)
    plan = reading.plan()
    attempts = training_attempts(folder)
    newest = attempts[-1] if attempts else None
    outcome = read_outcome(folder.outcome)
    verdict = _judge(folder, newest, outcome, jobs)
    reading.look()
    view = reading.view(newest)
    running = verdict.state is State.running
    return Standing(
        folder=folder,
        plan=plan,
        state=verdict.state,
        reason=verdict.reason or (view.text() if running and view.phase and not view.in_steps else ""),
        live=verdict.live,
        job=verdict.job,
        attempt=newest.number if newest else None,
        step=view.step,
        total_steps=view.total_steps,
        loss=number(view.values.get("train/loss")),
        tokens_per_second=number(view.values.get("perf/tokens_per_second")) if running else None,
        eta_s=view.eta_s() if running else None,
        since=_since(folder, newest, outcome if not verdict.live else None),
        outcome=outcome,
        wordless=verdict.wordless,
        nodes=_nodes(newest, verdict.slurm),
        starts=_starts(verdict.slurm),
        waits_for=verdict.slurm.reason if verdict.slurm is not None and verdict.slurm.is_pending else "",
    )


def live_submissions(folder: RunFolder, jobs: Mapping[str, Job] | None) -> list[Submission]:
    """The jobs of the run that Slurm still has: what runs first, then the ranks' job before those around it."""
    if not jobs:
        return []
    newest_first = reversed(read_submissions(folder))
    alive = [sent for sent in newest_first if sent.job_id in jobs]
    return sorted(alive, key=lambda sent: (jobs[sent.job_id].is_pending, _PURPOSES.index(sent.purpose)))


def training_attempts(folder: RunFolder) -> list[Attempt]:
    """The attempts that trained or tried to: not those that only prepared data or exported."""
    return [attempt for attempt in list_attempts(folder) if read_job(attempt).get("verb", "agent") == "agent"]


def find_local(folder: RunFolder) -> int | None:
    """Process id of the run's newest attempt where it is alive on this host, whatever it does."""
    attempts = list_attempts(folder)
    return local.find_agent(attempts[-1], socket.gethostname()) if attempts else None


def _judge(
    folder: RunFolder, newest: Attempt | None, outcome: Outcome | None, jobs: Mapping[str, Job] | None
) -> _Verdict:
    current = outcome if outcome and (newest is None or outcome.attempt >= newest.number) else None
    alive = live_submissions(folder, jobs)
    if alive and jobs is not None:
        return _judge_job(folder, alive[0], jobs[alive[0].job_id], current, _goes_on(newest))
    pid = find_local(folder)
    if pid is not None:
        return _Verdict(State.running, _stopping(folder), True, f"local:{pid}")
    job = str(read_job(newest).get("job", "")) if newest else ""
    if current is not None:
        return _Verdict(current.state, current.reason, False, job)
    submitted = read_submissions(folder)
    if jobs is None and submitted:
        return _Verdict(State.running if newest else State.queued, "Slurm could not be asked", True, job)
    if newest is not None:
        return _Verdict(State.failed, f"attempt {newest.number} ended without a word", False, job, wordless=True)
    if submitted:
        reason = f"job {submitted[-1].job_id} left the queue before it started"
        return _Verdict(State.failed, reason, False, f"slurm:{submitted[-1].job_id}", wordless=True)
    return _Verdict(State.prepared, "not started", False, "")


def _judge_job(folder: RunFolder, sent: Submission, job: Job, current: Outcome | None, goes_on: bool) -> _Verdict:
    name = f"slurm:{sent.job_id}"
    if sent.purpose == EXPORT and current is not None and current.state in ENDED:
        return _Verdict(current.state, f"{current.reason}; export {'waits' if job.is_pending else 'runs'}", True, name)
    ended = current is not None and current.state in ENDED and not goes_on
    if job.is_pending and not (sent.after and ended):  # the end of a chain has a last job, which has nothing to do
        return _Verdict(State.queued, job.explanation, True, name, slurm=job)
    if sent.purpose != TRAIN:
        return _Verdict(State.running, _DOING[sent.purpose], True, name, slurm=job)
    if current is not None and current.state in ENDED:
        if goes_on:  # its nodes are being cleaned, and then the next attempt begins
            return _Verdict(State.queued, f"goes on after: {current.reason}", True, name, slurm=job)
        return _Verdict(current.state, current.reason, False, name)
    return _Verdict(State.running, _stopping(folder), True, name, slurm=job)


def _goes_on(newest: Attempt | None) -> bool:
    """Whether it was decided after an attempt that there will be another."""
    try:
        return newest is not None and newest.decision.read_text().strip() == "requeue"
    except OSError:
        return False


def _stopping(folder: RunFolder) -> str:
    try:
        return f"stopping: {folder.stop.read_text().strip()}"
    except FileNotFoundError:
        return ""


def _nodes(newest: Attempt | None, job: Job | None) -> str:
    """As Slurm writes them, else the hosts of the newest attempt."""
    if job is not None and job.node_list:
        return job.node_list
    if newest is None:
        return ""
    try:
        return ",".join(newest.hosts.read_text().split())
    except OSError:
        return str(read_job(newest).get("host", ""))


def _starts(job: Job | None) -> str:
    return job.start if job is not None and job.is_pending and job.start[:1].isdigit() else ""


def _since(folder: RunFolder, newest: Attempt | None, ended: Outcome | None) -> float:
    """When what the state says began: the end, the attempt's start, or when the folder was made."""
    if ended is not None:
        return ended.time
    started = number(read_job(newest).get("time")) if newest else None
    if started is None:
        started = folder.run_json.stat().st_mtime
    return min(started, time.time())
