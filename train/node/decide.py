"""What comes after an attempt: the end, or the queue again. Decided here and nowhere else. Pure.

`train.node.aftermath` reads what this needs and writes what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from conf.cause import all_failures, first_cause, is_termination
from conf.outcome import AgentReport, Cause, Failure, Outcome, State, StopReason

MAX_WITHOUT_PROGRESS = 3
"""Attempts in a row that may end without a newer checkpoint before the run ends."""

REPEATS = frozenset(
    {
        Cause.config,
        Cause.data,
        Cause.oom,
        Cause.cuda_oom,
        Cause.shm_full,
        Cause.nan,
        Cause.import_error,
        Cause.checkpoint,
        Cause.disk_full,
    }
)
"""Causes that another attempt would meet again: the run ends, whatever it has saved."""

MACHINES = frozenset(
    {
        Cause.bad_node,
        Cause.lost_peer,
        Cause.port,
        Cause.hang,
        Cause.nccl_timeout,
        Cause.nccl,
        Cause.gpu,
        Cause.node_fail,
        Cause.bad_node,
        Cause.file_system,
    }
)
"""Causes that come from the machines: worth another attempt even where nothing was saved yet."""

OUTSIDE = MACHINES | {Cause.killed}
"""Causes that a run does not bring upon itself, so that a stop that was asked for explains them."""


class Verdict(Enum):
    """The word for the job script; how it goes on in a further attempt is `cluster.continuation`."""

    end = "end"
    requeue = "requeue"


@dataclass(frozen=True)
class History:
    """The nodes of this attempt, and what all attempts have saved.

    `steps` has the newest checkpoint's step by attempt, for those that saved one.

    Steps are compared, so an attempt that only repeats what an earlier one had saved has made no progress. `aside` are
    the attempts that only prepared data or exported, `since` is the one that a person started: budgets count what the
    run has done by itself since then.
    """

    attempt: int
    nodes: int
    steps: Mapping[int, int]
    aside: frozenset[int] = frozenset()
    since: int = 0

    @property
    def newest_step(self) -> int:
        """The newest step ever saved; 0 where none was."""
        return max(self.steps.values(), default=0)

    @property
    def requeues(self) -> int:
        """How often the run has gone on by itself."""
        return len(set(range(self.since, self.attempt)) - self.aside)

    @property
    def without_progress(self) -> int:
        """Attempts in a row, this one the last, that saved nothing newer than those before them."""
        best, streak = max((step for attempt, step in self.steps.items() if attempt < self.since), default=0), 0
        for attempt in sorted(set(range(self.since, self.attempt + 1)) - self.aside):
            step = self.steps.get(attempt, 0)
            streak = 0 if step > best else streak + 1
            best = max(best, step)
        return streak


@dataclass(frozen=True)
class Settings:
    """What the person allows (`job/settings`): whether the run goes on by itself at all, and how often."""

    goes_on: bool = False
    max_requeues: int = 20
    leave_out: int = 0


@dataclass(frozen=True)
class Decision:
    """What the job script does, and how the run stands."""

    verdict: Verdict
    outcome: Outcome

    @property
    def good(self) -> bool:
        """Whether the attempt ended in order."""
        return self.outcome.state not in (State.failed, State.cancelled)


def decide(
    outcome: Outcome | None,
    stop: StopReason | None,
    reports: Sequence[AgentReport],
    failures: Sequence[Failure],
    history: History,
    settings: Settings,
    now: float,
    stuck: str = "",
) -> Decision:
    """The decision after an attempt.

    `outcome` is what rank 0 wrote in this attempt, if it came to that; `failures` are the ranks' own words. `stuck` is
    why nodes that fail cannot be left out, so that another attempt would meet them again.
    """
    if outcome is None:
        outcome = _infer_outcome(stop, reports, failures, history, now)
    if outcome.state in (State.time_limit, State.preempted):
        return _again(outcome, history, settings, f"{outcome.state.value}: goes on in the queue")
    if outcome.state is not State.failed:
        return Decision(Verdict.end, outcome)
    cause = outcome.failure.cause if outcome.failure else Cause.unknown
    if cause in REPEATS:
        return Decision(Verdict.end, outcome)
    if cause is Cause.bad_node and stuck:
        return Decision(Verdict.end, replace(outcome, reason=f"{outcome.reason}; {stuck}"))
    if history.without_progress == 0:
        return _again(outcome, history, settings, f"{outcome.reason}; goes on from step {history.newest_step}")
    if cause in MACHINES:
        return _again(outcome, history, settings, f"{outcome.reason}; nothing new was saved, tried again")
    return Decision(Verdict.end, outcome)


def _again(outcome: Outcome, history: History, settings: Settings, reason: str) -> Decision:
    """Go on, unless a budget is used up.

    A run that others preempt before it could save is not at fault, however often: the number of requeues bounds that.
    """
    if not settings.goes_on:
        return Decision(Verdict.end, outcome)
    if history.requeues >= settings.max_requeues:
        used = f"{outcome.reason}; the budget of {settings.max_requeues} requeues is used up"
        return Decision(Verdict.end, replace(outcome, reason=used))
    at_fault = outcome.state is not State.preempted
    if at_fault and history.without_progress >= MAX_WITHOUT_PROGRESS:
        stuck = f"no_progress: {history.without_progress} attempts in a row saved nothing newer; last: {outcome.reason}"
        return Decision(Verdict.end, replace(outcome, state=State.failed, reason=stuck))
    return Decision(Verdict.requeue, replace(outcome, reason=reason))


def _infer_outcome(
    stop: StopReason | None,
    reports: Sequence[AgentReport],
    failures: Sequence[Failure],
    history: History,
    now: float,
) -> Outcome:
    """How an attempt stands of which rank 0 wrote nothing."""
    cause = first_cause(all_failures(failures, reports))
    blank = Outcome(State.failed, "", history.newest_step, history.attempt, now)
    ended_from_outside = cause is None or cause.cause in OUTSIDE
    if stop is not None and ended_from_outside:
        saved = f"saved up to step {history.newest_step}" if history.newest_step else "nothing was saved"
        return replace(blank, state=State(stop.value), reason=f"{stop.value} before the ranks could save; {saved}")
    if cause is None:
        lost = len(reports) < history.nodes
        who = _name_lost(reports, history.nodes) if lost else "the ranks ended without an outcome"
        silent = Failure(-1, 0, "", now, Cause.lost_peer if lost else Cause.unknown, who)
        return replace(blank, reason=who, failure=silent)
    if (is_termination(cause) or cause.cause is Cause.unknown) and len(reports) < history.nodes:
        # An end without a word tells less than an agent that is gone.
        gone = _name_lost(reports, history.nodes)
        return replace(blank, reason=gone, failure=replace(cause, cause=Cause.lost_peer, message=gone))
    if is_termination(cause):
        return replace(blank, state=State.cancelled, reason="ended by SIGTERM from outside", failure=cause)
    who = f"rank {cause.rank}" if cause.rank >= 0 else "the agent"
    return replace(
        blank, reason=f"{who} on {cause.host}: {cause.cause.value}: {_first_line(cause.message)}", failure=cause
    )


def _name_lost(reports: Sequence[AgentReport], nodes: int) -> str:
    lost = sorted(set(range(nodes)) - {report.node for report in reports})
    return f"the agents of nodes {', '.join(map(str, lost))} are gone without a word"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
