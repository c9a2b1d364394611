"""Why an attempt failed: the first cause among what ranks and agents wrote, not one of its victims. Reads only.

A rank that dies takes its peers down: they see a closed connection a moment later, or the agent ends them with SIGTERM
or SIGKILL. So the first in time that is not such a victim is the cause.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from conf.layout import Attempt
from conf.outcome import AgentReport, Cause, Failure, RankExit

VICTIM_WORDS = ("connection closed", "connection reset", "broken pipe", "socket closed", "peer closed", "rendezvous")
T = TypeVar("T")


@dataclass(frozen=True)
class RootCause:
    """The first rank (or agent) that failed. `victims` are ranks that ended after it because of it."""

    rank: int
    node: int
    host: str
    time: float
    cause: Cause
    message: str
    traceback: str
    log: Path
    victims: list[int]


def _read_all(folder: Path, kind: type[T]) -> list[T]:
    """The records of a folder; one that cannot be read is left out, since the cause has to be found all the same."""
    records = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            records.append(msgspec.json.decode(path.read_bytes(), type=kind))
        except (msgspec.DecodeError, OSError):
            continue
    return records


def read_failures(attempt: Attempt) -> list[Failure]:
    """What ranks and agents wrote of their own failures."""
    reports = read_agent_reports(attempt)
    return _read_all(attempt.failures, Failure) + [report.failure for report in reports if report.failure]


def read_agent_reports(attempt: Attempt) -> list[AgentReport]:
    """What the nodes' agents saw."""
    return _read_all(attempt.agent_reports, AgentReport)


def is_victim(failure: Failure) -> bool:
    """Whether a failure only tells of another rank's end."""
    message = failure.message.lower()
    return failure.cause is Cause.lost_peer or any(word in message for word in VICTIM_WORDS)


def describe_exit(rank_exit: RankExit) -> str:
    """How a process ended, in words."""
    if rank_exit.signal is not None:
        try:
            name = signal.Signals(rank_exit.signal).name
        except ValueError:
            name = f"signal {rank_exit.signal}"
        return f"killed by {name}"
    return f"exit status {rank_exit.exit_status}"


def find_root_cause(attempt: Attempt) -> RootCause | None:
    """The first failure by time that is no victim's; None where nothing failed.

    A rank that was killed from outside wrote no failure of its own: its agent's word on how it ended counts then.
    """
    reports = read_agent_reports(attempt)
    found = {(failure.node, failure.rank): failure for failure in read_failures(attempt)}
    failures = list(found.values())
    spoke = {failure.rank for failure in failures}
    for report in reports:
        failures += [
            _from_exit(rank_exit, report)
            for rank_exit in report.exits
            if rank_exit.rank not in spoke and _bad(rank_exit)
        ]
    if not failures:
        return None
    ranked = sorted(failures, key=lambda failure: (is_victim(failure) or _ended_by_agent(failure), failure.time))
    first = ranked[0]
    log = attempt.rank_log(first.node, first.rank) if first.rank >= 0 else attempt.agent_log(first.node)
    return RootCause(
        rank=first.rank,
        node=first.node,
        host=first.host,
        time=first.time,
        cause=first.cause,
        message=first.message,
        traceback=first.traceback,
        log=log,
        victims=sorted({failure.rank for failure in ranked[1:]} - {first.rank}),
    )


def _bad(rank_exit: RankExit) -> bool:
    return rank_exit.signal is not None or rank_exit.exit_status not in (0, None)


def _from_exit(rank_exit: RankExit, report: AgentReport) -> Failure:
    cause = Cause.killed if rank_exit.signal is not None else Cause.unknown
    return Failure(
        rank=rank_exit.rank,
        node=report.node,
        host=report.host,
        time=rank_exit.time,
        cause=cause,
        message=describe_exit(rank_exit),
        pid=rank_exit.pid,
    )


def _ended_by_agent(failure: Failure) -> bool:
    """Whether a rank without a word of its own was ended by SIGTERM, which is how an agent ends the others."""
    return failure.message == "killed by SIGTERM"
