"""The attempts of a run, one after the other: where they ran, how far they came, how they ended, what followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conf.layout import Attempt, RunFolder
from conf.outcome import AgentReport, State, read_outcome, read_records
from launcher.runs.read import Line, list_attempts, number, read_job, read_lines


@dataclass(frozen=True)
class AttemptStory:
    """One attempt. Steps are None where it made none; `ended` where nobody wrote its end.

    `verb` is what it was started for: `agent` trains; `followed` is the decision's word. `rolled_back`: pairs of steps,
    after the first it went back to the weights of the second.
    """

    attempt: Attempt
    verb: str
    job: str
    started: float | None
    ended: float | None = None
    hosts: tuple[str, ...] = ()
    state: State | None = None
    reason: str = ""
    followed: str = ""
    first_step: int | None = None
    last_step: int | None = None
    saved: tuple[int, ...] = ()
    save_s: float | None = None
    rolled_back: tuple[tuple[int, int], ...] = ()

    @property
    def number(self) -> int:
        return self.attempt.number


@dataclass
class _Seen:
    """What events and metrics say of one attempt."""

    hosts: tuple[str, ...] = ()
    ended: float | None = None
    state: State | None = None
    reason: str = ""
    followed: str = ""
    steps: list[int] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    save_s: float | None = None
    rolled_back: list[tuple[int, int]] = field(default_factory=list)


def tell(folder: RunFolder) -> list[AttemptStory]:
    """The stories of all attempts, the oldest first."""
    seen: dict[int, _Seen] = {}
    for line in read_lines(folder.events):
        _take_event(seen.setdefault(_attempt_of(line), _Seen()), line)
    for line in read_lines(folder.metrics):
        if isinstance(line.get("step"), int) and "train/loss" in line:
            steps = seen.setdefault(_attempt_of(line), _Seen()).steps
            steps[:] = [min([*steps, line["step"]]), max([*steps, line["step"]])]
    outcome = read_outcome(folder.outcome)
    if outcome is not None:
        own = seen.setdefault(outcome.attempt, _Seen())
        own.state, own.reason = outcome.state, outcome.reason or own.reason
        own.ended = own.ended or outcome.time
    return [_story(attempt, seen.get(attempt.number, _Seen())) for attempt in list_attempts(folder)]


def _attempt_of(line: Line) -> int:
    value = line.get("attempt")
    return value if isinstance(value, int) else 0


def _take_event(seen: _Seen, line: Line) -> None:
    kind = line.get("event")
    if kind == "attempt_started":
        seen.hosts = tuple(str(host) for host in line.get("hosts") or ())
    elif kind == "checkpoint" and isinstance(line.get("step"), int):
        seen.saved.append(line["step"])
        seconds = number(line.get("seconds"))
        if seconds is not None:
            seen.save_s = max(seconds, seen.save_s or 0.0)
    elif kind == "warning" and line.get("about") == "roll_back":
        seen.rolled_back.append((int(line.get("step") or 0), int(line.get("to") or 0)))
    elif kind in ("attempt_ended", "decision", "ended"):
        seen.ended = number(line.get("time"))
        seen.state = _state(line.get("state")) or seen.state
        seen.reason = str(line.get("reason") or seen.reason)
        seen.followed = str(line.get("decision") or seen.followed)


def _state(word: Any) -> State | None:
    return next((state for state in State if state.value == word), None)


def _story(attempt: Attempt, seen: _Seen) -> AttemptStory:
    job = read_job(attempt)
    reports = read_records(attempt.agent_reports, AgentReport)
    return AttemptStory(
        attempt=attempt,
        verb=str(job.get("verb", "agent")),
        job=str(job.get("job", "")),
        started=number(job.get("time")),
        ended=seen.ended or max((report.ended for report in reports), default=None),
        hosts=seen.hosts or tuple(report.host for report in reports) or ((str(job["host"]),) if "host" in job else ()),
        state=seen.state,
        reason=seen.reason,
        followed=seen.followed,
        first_step=seen.steps[0] if seen.steps else None,
        last_step=seen.steps[-1] if seen.steps else None,
        saved=tuple(seen.saved),
        save_s=seen.save_s,
        rolled_back=tuple(seen.rolled_back),
    )
