"""Why an attempt failed, for people: `conf.cause` over what ranks and agents wrote. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.cause import all_failures, ended_badly, first_cause
from conf.layout import Attempt
from conf.outcome import AgentReport, Cause, Failure, read_records


@dataclass(frozen=True)
class RootCause:
    """The first rank (or agent) that failed. `victims` are the other ranks that ended badly."""

    rank: int
    node: int
    host: str
    time: float
    cause: Cause
    message: str
    traceback: str
    log: Path
    victims: list[int]


def find_root_cause(attempt: Attempt) -> RootCause | None:
    """The first failure by time that is no victim's; None where nothing failed."""
    reports = read_records(attempt.agent_reports, AgentReport)
    failures = all_failures(read_records(attempt.failures, Failure), reports)
    first = first_cause(failures)
    if first is None:
        return None
    ended = {rank_exit.rank for report in reports for rank_exit in report.exits if ended_badly(rank_exit)}
    return RootCause(
        rank=first.rank,
        node=first.node,
        host=first.host,
        time=first.time,
        cause=first.cause,
        message=first.message,
        traceback=first.traceback,
        log=attempt.rank_log(first.node, first.rank) if first.rank >= 0 else attempt.agent_log(first.node),
        victims=sorted((ended | {failure.rank for failure in failures}) - {first.rank}),
    )
