"""After an attempt: what speaks against its nodes, and which of them the next one does without, within the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conf.cause import all_failures, first_cause
from conf.layout import RunFolder
from conf.outcome import AgentReport, Failure
from train.node.blame import Blame, blamed, common_failures
from train.node.env import NodeEnv
from train.node.suspicion import (
    left_out_before,
    read_down,
    read_hosts,
    read_preflights,
    repeaters,
)


@dataclass(frozen=True)
class Judgement:
    """What an attempt says of its nodes. `stuck` is why nodes that the run cannot use would come again."""

    blames: tuple[Blame, ...] = ()
    stuck: str = ""

    @property
    def unfit(self) -> list[str]:
        """The nodes that this run cannot use."""
        return list(dict.fromkeys(blame.node for blame in self.blames if blame.unfit))


def judge_nodes(
    folder: RunFolder,
    environment: NodeEnv,
    failures: Sequence[Failure],
    reports: Sequence[AgentReport],
    budget: int,
) -> Judgement:
    """Read what an attempt left of its nodes. `budget` is how many the run may leave out over all its attempts."""
    attempt = folder.attempt(environment.attempt)
    hosts = read_hosts(attempt) or list(environment.hosts)
    preflights = read_preflights(attempt, environment.nodes)
    alike = common_failures(preflights)
    if alike:
        words = f"all {len(preflights)} nodes fail alike, so it is the site or a limit"
        return Judgement(stuck=f"{words}: {'; '.join(alike)}")
    cause = first_cause(all_failures(failures, reports))
    found = Judgement(tuple(blamed(hosts, cause, reports, preflights, read_down(attempt))))
    left = budget - len(left_out_before(folder))
    if len(found.unfit) > left:
        used = f" and {budget - left} used" if budget > left else ""
        words = f"{', '.join(found.unfit)} cannot be left out: health.leave_out is {budget} here{used}"
        return Judgement(found.blames, words)
    return found


def sack(folder: RunFolder, environment: NodeEnv, judgement: Judgement, budget: int) -> list[str]:
    """The nodes to leave out from the next attempt on: those that are unfit, then those that failed this run twice."""
    hosts = read_hosts(folder.attempt(environment.attempt)) or list(environment.hosts)
    unfit = judgement.unfit
    tired = [node for node in repeaters(folder) if node in hosts and node not in unfit]
    # Of the two ends of a cut link the head node is the last to go: all the others reached it.
    tired.sort(key=hosts.index, reverse=True)
    return [*unfit, *tired][: max(0, budget - len(left_out_before(folder)))]
