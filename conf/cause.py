"""Why an attempt failed: what an end without a word means, and which of many failures came first. Pure.

A rank that dies takes its peers down: they see a closed connection a moment later, or their agent ends them. So the
first failure in time that is not such a victim's is the cause. Nodes decide by it what comes next; the launcher shows
it to people.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from conf.outcome import AgentReport, Cause, Failure, RankExit

TERMINATED = "the agent was told to end (SIGTERM)"
"""What an agent says that was told to end."""


def classify_exit(exit_status: int | None, signal_number: int | None, out_of_memory: bool) -> Cause:
    """The class of an end without a word: SIGKILL with the kernel's word on memory is `oom`, without it `killed`."""
    if signal_number == signal.SIGKILL and out_of_memory:
        return Cause.oom
    if signal_number is not None:
        return Cause.killed
    return Cause.unknown


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
    return [*failures, *told, *silent]


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """The failure that came first and tells of no other: a lost peer or an agent told to end is only a victim."""
    return min(failures, key=lambda failure: (_victimhood(failure), failure.time), default=None)


def _victimhood(failure: Failure) -> int:
    if failure.cause is Cause.lost_peer:
        return 1
    return 2 if is_termination(failure) else 0


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
