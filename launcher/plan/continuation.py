"""How a run goes on after its job ended too early: by the person's word, else by what Slurm says of itself. Pure."""

from __future__ import annotations

from conf.schema import ClusterConfig, ClusterKind, Continuation
from launcher.facts.facts import Facts
from launcher.plan.topology import partition_of
from slurm.policy import PreemptMode


def make_continuation(cluster: ClusterConfig, facts: Facts) -> tuple[Continuation, list[str]]:
    """`requeue`, `chain` or `none`, and why, in words where it was derived."""
    if cluster.kind is ClusterKind.local:
        return Continuation.none, []
    if cluster.continuation is not Continuation.auto:
        return cluster.continuation, []
    if cluster.requeue is not None:
        return (Continuation.requeue if cluster.requeue else Continuation.none), []
    why = _why_chain(cluster, facts)
    return (Continuation.chain, [f"cluster.continuation=chain: {why}"]) if why else (Continuation.requeue, [])


def _why_chain(cluster: ClusterConfig, facts: Facts) -> str:
    policy = facts.slurm.policy if facts.slurm else None
    if policy is None:
        return ""
    if not policy.requeues:
        return "this Slurm does not requeue jobs (JobRequeue=0)"
    partition = partition_of(cluster, facts)
    preemption = policy.preemptions.get(partition.name) if partition else None
    if partition and preemption and preemption.mode is PreemptMode.cancel:
        return f"partition {partition.name} cancels what it preempts"
    return ""
