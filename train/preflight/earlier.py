"""Nodes that have failed this run before: where the scheduler put the job back by itself, nobody has judged them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conf.layout import RunFolder
from conf.preflight import Check, Preflight
from conf.record import Plan
from train.node.blame import blamed
from train.node.settings import read_settings
from train.node.suspicion import left_out_before, read_down, read_hosts, remember, repeaters


def tired_nodes(folder: RunFolder, plan: Plan, attempt: int) -> dict[str, str]:
    """The nodes that failed the run twice, with their failures, as many as may still be left out.

    What the scheduler said of the attempt before is noted first, where no decision did.
    """
    before = folder.attempt(attempt - 1)
    if attempt > 0 and not before.decision.exists():
        remember(folder, plan, attempt - 1, blamed(read_hosts(before), None, (), (), read_down(before)))
    left = read_settings(folder).leave_out - len(left_out_before(folder))
    hosts = read_hosts(folder.attempt(attempt))
    tired = [node for node in repeaters(folder).items() if node[0] in hosts]
    return dict(tired[: max(0, left)])


def remembered(nodes: Sequence[Preflight], tired: Mapping[str, str]) -> list[Preflight]:
    """The pre-flights, those of tired nodes with a check that fails."""
    return [
        node.having(Check("earlier_attempts", False, tired[node.host], "the run goes on without it"))
        if node.host in tired
        else node
        for node in nodes
    ]
