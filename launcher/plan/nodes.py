"""Nodes that a job does without: those with enough evidence in the ledger, within a budget. Pure."""

from __future__ import annotations

from conf.node_ledger import Suspect, budget_of, left_out
from conf.schema import ClusterKind, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.topology import partition_of


def avoided(config: RunConfig, facts: Facts) -> list[Suspect]:
    """The bad nodes that Slurm is asked to leave out; none where the person names the nodes."""
    if config.cluster.kind is not ClusterKind.slurm or config.cluster.nodelist:
        return []
    return left_out(facts.nodes.suspects, facts.nodes.names, _budget(config, facts))


def exclude(config: RunConfig, facts: Facts) -> str | None:
    """sbatch's --exclude: `cluster.exclude` and the bad nodes."""
    given = config.cluster.exclude
    names = [suspect.node for suspect in avoided(config, facts)]
    return ",".join([*([given] if given else []), *names]) or None


def budget_left(config: RunConfig, facts: Facts) -> int:
    """How many nodes the run itself may still leave out between its attempts."""
    if config.cluster.kind is not ClusterKind.slurm or config.cluster.nodelist:
        return 0
    return _budget(config, facts) - len(avoided(config, facts))


def node_notes(config: RunConfig, facts: Facts) -> list[str]:
    """Which nodes are left out, and why."""
    return [f"left out: {suspect.in_words()}; see muster nodes" for suspect in avoided(config, facts)]


def node_warnings(config: RunConfig, facts: Facts) -> list[str]:
    """Bad nodes that the job may get all the same."""
    kept = {suspect.node for suspect in avoided(config, facts)}
    bad = [suspect for suspect in facts.nodes.suspects if suspect.is_bad and suspect.node not in kept]
    bad = [suspect for suspect in bad if suspect.node in facts.nodes.names]
    if not bad or config.cluster.kind is not ClusterKind.slurm:
        return []
    why = "cluster.nodelist names the nodes" if config.cluster.nodelist else "health.leave_out allows no more"
    return [f"not left out, since {why}: {', '.join(suspect.in_words() for suspect in bad)}"]


def _budget(config: RunConfig, facts: Facts) -> int:
    partition = partition_of(config.cluster, facts)
    if partition is None:  # several, or Slurm said nothing of it
        return 1 if config.health.leave_out is None else config.health.leave_out
    return budget_of(config.health.leave_out, partition.nodes, config.cluster.nodes)
