"""What a person reads where ranks failed: the first one's error and the end of its log, then who went with it."""

from __future__ import annotations

from conf.cause import all_failures, describe_exit, first_cause
from conf.layout import Attempt
from conf.outcome import AgentReport, Cause, Failure, read_records
from train.node.log_tail import read_tail


def print_failures(attempt: Attempt, report: AgentReport) -> None:
    """Print how this node's ranks ended: the cause with its traceback and log, the rest in a line each."""
    own = [failure for failure in read_failures(attempt) if failure.node == report.node]
    cause = first_cause(all_failures(own, [report]))
    if cause is None:
        print(f"muster: node {report.node} ({report.host}) failed without a word", flush=True)
        return
    who = f"rank {cause.rank}" if cause.rank >= 0 else "agent"
    print(f"muster: {who} on {cause.host} (node {cause.node}) failed: {cause.cause.value}: {cause.message}")
    if cause.cause is Cause.lost_peer:
        print("muster: the cause is on another node, or the network between them")
    elif cause.traceback:
        print(cause.traceback.rstrip())
    if cause.rank >= 0:
        log = attempt.rank_log(report.node, cause.rank)
        lines = read_tail(log)
        print(f"muster: before that, in {log}:" if lines else f"muster: nothing before that in {log}")
        for line in lines:
            print(f"  {line}")
    for rank_exit in report.exits:
        if rank_exit.rank != cause.rank:
            how = describe_exit(rank_exit.exit_status, rank_exit.signal)
            print(f"muster: rank {rank_exit.rank}: {how}{' by its agent' if rank_exit.ended_by_agent else ''}")
    print(end="", flush=True)


def read_failures(attempt: Attempt) -> list[Failure]:
    """What ranks and data step wrote of their own failures."""
    return read_records(attempt.failures, Failure)


def read_reports(attempt: Attempt) -> list[AgentReport]:
    """What the agents wrote."""
    return read_records(attempt.agent_reports, AgentReport)
