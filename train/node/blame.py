"""Which nodes an attempt speaks against, and how strongly. Pure.

A pre-flight speaks against the node that failed it, unless all fail alike: then it is the site or the limit. A failure
speaks against its node where machines cause such failures. A link has two ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conf.node_ledger import STRONG, WEAK
from conf.outcome import AgentReport, Cause, Failure
from conf.preflight import HARDWARE, SURROUNDINGS, Preflight

SURE = ("uncorrectable", "fallen off the bus", "nvrm: xid", "gpu is lost")
"""Words of a driver that leave no doubt about a GPU."""

SUSPICIOUS = frozenset({Cause.gpu, Cause.killed, Cause.hang, Cause.file_system})
"""Causes that a node may bring about, and a run as well: only the second time on the same node tells."""


@dataclass(frozen=True)
class Blame:
    """One thing that an attempt says against a node. `unfit`: this run cannot use it, whatever others can.

    Weight 0 says nothing about the node's health, such as another model of GPU: it is nothing for the ledger.
    """

    node: str
    cause: str
    evidence: str
    weight: int
    unfit: bool = False


def blamed(
    hosts: Sequence[str],
    cause: Failure | None,
    reports: Sequence[AgentReport],
    preflights: Sequence[Preflight],
    down: Mapping[str, str],
) -> list[Blame]:
    """What the attempt says against its nodes.

    Args:
        hosts: their names, by node.
        cause: the failure that ended the attempt, if one did.
        reports: those of the agents.
        preflights: those that were written.
        down: nodes that the scheduler lost, with its word on them.
    """
    found = list(_by_preflight(hosts, preflights))
    found += [Blame(node, Cause.node_fail.value, words, WEAK) for node, words in sorted(down.items())]
    if found or cause is None:
        return found
    if cause.cause in (Cause.lost_peer, Cause.node_fail):
        return list(_by_silence(hosts, reports))
    if cause.cause in SUSPICIOUS and 0 <= cause.node < len(hosts):
        text = cause.message.splitlines()[0] if cause.message else cause.cause.value
        sure = cause.cause is Cause.gpu and any(word in cause.message.lower() for word in SURE)
        who = f"rank {cause.rank}: " if cause.rank >= 0 else ""
        return [Blame(hosts[cause.node], cause.cause.value, f"{who}{text}", STRONG if sure else WEAK)]
    return []


def common_failures(preflights: Sequence[Preflight]) -> list[str]:
    """Checks that every node of several fails, in words: they are no node's fault."""
    if len(preflights) < 2:
        return []
    alike = set.intersection(*({check.name for check in found.failed} for found in preflights))
    return [check.in_words() for check in preflights[0].failed if check.name in alike]


def _by_preflight(hosts: Sequence[str], preflights: Sequence[Preflight]) -> Iterator[Blame]:
    if common_failures(preflights):
        return
    cut_off = [found for found in preflights if any(check.name == "link" for check in found.failed)]
    at_head = len(hosts) > 2 and len(cut_off) > (len(hosts) - 1) / 2
    if at_head:
        names = ", ".join(found.host for found in cut_off)
        yield Blame(hosts[0], "link", f"not reached by {names}", WEAK, unfit=True)
    for found in preflights:
        for check in found.failed:
            if check.name == "link" and at_head:
                continue
            weight = STRONG if check.name in HARDWARE else WEAK if check.name in SURROUNDINGS else 0
            yield Blame(found.host, check.name, check.in_words().partition(": ")[2], weight, unfit=True)
            if check.name == "link" and len(hosts) == 2:  # which end it is nobody knows
                yield Blame(hosts[0], "link", f"not reached by {found.host}", WEAK)


def _by_silence(hosts: Sequence[str], reports: Sequence[AgentReport]) -> Iterator[Blame]:
    """Nodes whose agent is gone, or of which the others heard nothing any more."""
    here = {report.node for report in reports}
    gone = [node for node in range(len(hosts)) if node not in here]
    for node in gone:
        yield Blame(hosts[node], Cause.lost_peer.value, "its agent is gone without a word", WEAK)
    if gone:
        return
    accused = {node: [report.node for report in reports if node in report.silent] for node in range(len(hosts))}
    # Everybody talks to node 0 alone: where one link is cut, both its ends accuse each other.
    innocent = {0} if len(hosts) > 2 and len(accused.get(0, [])) == 1 else set()
    for node, accusers in accused.items():
        if accusers and node not in innocent:
            names = ", ".join(hosts[accuser] for accuser in accusers)
            yield Blame(hosts[node], "link", f"not heard any more by {names}", WEAK)
