"""Why an attempt failed: what an end without a word means, and which of many failures came first. Pure.

A rank that dies takes its peers down: they see a closed connection a moment later, wait for it until a watchdog ends
them, or their agent does. So the first failure in time that is not such a victim's is the cause. Nodes decide by it
what comes next; the launcher shows it to people.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

from conf.failure_texts import classify_text, telling_lines
from conf.outcome import AgentReport, Cause, Failure, RankExit

TERMINATED = "the agent was told to end (SIGTERM)"
"""What an agent says that was told to end."""

NO_PROGRESS = "no sign of progress"
"""How the watchdog's word on a rank that stood still begins: it has looked at all of them, and names the one."""

ABORTED = "terminate called"
"""What C++ prints before it aborts; what it threw stands in the lines after it."""

SYNCHRONOUS_S = 1.0
"""Clocks of two nodes that differ by less are taken as they are: the moment of meeting is known no better."""

WAITED_IN_VAIN = frozenset({Cause.hang, Cause.nccl_timeout, Cause.nccl})
"""What a rank says whose peers did not come: the cause only where no failure explains their absence."""


def classify_exit(
    exit_status: int | None, signal_number: int | None, out_of_memory: bool, lines: Sequence[str] = ()
) -> Cause:
    """The class of an end without a word of its own.

    Args:
        exit_status: of the process, None where a signal ended it.
        signal_number: the signal that ended it.
        out_of_memory: whether the kernel ended a process of this node for want of memory.
        lines: the end of its log. Libraries abort and leave there what went wrong.
    """
    if signal_number == signal.SIGKILL:
        return Cause.oom if out_of_memory else Cause.killed
    if signal_number == signal.SIGBUS:
        return _told(lines) or Cause.killed
    if signal_number == signal.SIGABRT:
        return _aborted(lines) or _told(lines) or Cause.killed
    if signal_number is not None:
        return Cause.killed
    return _aborted(lines) or _told(lines) or Cause.unknown


def describe_exit(exit_status: int | None, signal_number: int | None) -> str:
    """How a process ended, in words."""
    if signal_number is not None:
        try:
            return f"killed by {signal.Signals(signal_number).name}"
        except ValueError:
            return f"killed by signal {signal_number}"
    return "ended" if exit_status is None else f"exit status {exit_status}"


def ended_badly(rank_exit: RankExit) -> bool:
    """Whether a rank's process ended by a signal or with a status other than 0."""
    return rank_exit.signal is not None or rank_exit.exit_status not in (0, None)


def is_termination(failure: Failure) -> bool:
    """Whether an agent only says that it was told to end."""
    return failure.rank < 0 and failure.message == TERMINATED


def all_failures(failures: Sequence[Failure], reports: Sequence[AgentReport]) -> list[Failure]:
    """What ranks and agents said, and what agents saw of ranks that said nothing; not of those they ended themselves.

    Times are by the clock of the lowest node that reported.

    Args:
        failures: the words of ranks and of the data step.
        reports: those of the agents, with their own words and the ends of their ranks.
    """
    spoke = {failure.rank for failure in failures}
    told = [report.failure for report in reports if report.failure is not None]
    silent = [
        _from_exit(rank_exit, report)
        for report in reports
        for rank_exit in report.exits
        if ended_badly(rank_exit) and not rank_exit.ended_by_agent and rank_exit.rank not in spoke
    ]
    ahead = clocks_ahead(reports)
    return [
        replace(failure, time=failure.time - ahead.get(failure.node, 0.0)) for failure in [*failures, *told, *silent]
    ]


def clocks_ahead(reports: Sequence[AgentReport]) -> dict[int, float]:
    """By how many seconds each node's clock is ahead of the lowest node's; 0 where it differs by a second or less.

    All agents leave the meeting at one moment, whatever their clocks say of it.
    """
    met = {report.node: report.met for report in reports if report.met is not None}
    if not met:
        return {}
    reference = met[min(met)]
    return {node: at - reference if abs(at - reference) > SYNCHRONOUS_S else 0.0 for node, at in met.items()}


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """The failure that came first and tells of no other; of victims alone the one that knows most."""
    return min(failures, key=lambda failure: (_victimhood(failure), failure.time, failure.rank), default=None)


def _victimhood(failure: Failure) -> int:
    if is_termination(failure):
        return 4
    if failure.cause is Cause.lost_peer:
        return 3
    if failure.cause in WAITED_IN_VAIN and not failure.message.startswith(NO_PROGRESS):
        return 2
    return 1 if failure.origin not in (None, failure.rank) else 0


def _aborted(lines: Sequence[str]) -> Cause | None:
    """The class of what C++ threw before it aborted."""
    said = [index for index, line in enumerate(lines) if ABORTED in line]
    return classify_text("\n".join(lines[said[0] : said[0] + 4])) if said else None


def _told(lines: Sequence[str]) -> Cause | None:
    return next((cause for _, cause in telling_lines(reversed(lines))), None)


def _from_exit(rank_exit: RankExit, report: AgentReport) -> Failure:
    return Failure(
        rank=rank_exit.rank,
        node=report.node,
        host=report.host,
        time=rank_exit.time,
        cause=classify_exit(rank_exit.exit_status, rank_exit.signal, out_of_memory=False),
        message=describe_exit(rank_exit.exit_status, rank_exit.signal),
        pid=rank_exit.pid,
    )
