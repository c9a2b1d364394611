"""Whether a save fits into the time that a site gives a job to end. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from conf.record import Plan
from conf.schema import ClusterKind
from conf.timing import MARGIN_S, SHARE
from launcher.facts.facts import Facts
from launcher.plan.memory.held import guessed
from launcher.plan.memory.host import checkpoint_bytes
from launcher.plan.storage import speed_of
from launcher.plan.topology import partition_of
from slurm.policy import Policy


@dataclass(frozen=True)
class Save:
    """What a save will be like: bytes of all ranks together, bytes a second, and where that speed comes from."""

    size: float
    speed: float
    source: str

    @property
    def seconds(self) -> float:
        return self.size / self.speed

    def in_words(self) -> str:
        """A save of 98 GB at 1 GB/s (assumed) takes 98 s."""
        size, speed = f"{self.size / 1e9:.3g} GB", f"{self.speed / 1e9:.2g} GB/s"
        return f"a save of {size} at {speed} ({self.source}) takes {self.seconds:.0f} s"


def expected_save(plan: Plan, facts: Facts) -> Save | None:
    """The run's own last save where it has one, else what its states will be; None where no formula counts them."""
    own = next((save for save in facts.saves if save.run_id == plan.run_id), None)
    if own is not None:
        return Save(own.size, own.size / own.seconds, "measured in this run")
    bytes_saved = saved_bytes(plan)
    if bytes_saved is None:
        return None
    return Save(bytes_saved, *speed_of(facts))


def saved_bytes(plan: Plan) -> int | None:
    """Bytes of a checkpoint; None where nobody counts what is trained."""
    if plan.parameters is None:
        return None
    held = guessed(plan.config, plan.parameters, plan.trainable_parameters, plan.quantized_parameters)
    return checkpoint_bytes(held, plan.config.parallel.zero_stage)


def grace_warnings(plan: Plan, facts: Facts) -> list[str]:
    """A save that does not fit into the grace of a preemption, or before the time limit."""
    cluster = plan.config.cluster
    save = expected_save(plan, facts) if cluster.kind is ClusterKind.slurm else None
    if save is None:
        return []
    need = (1 + SHARE) * save.seconds
    policy = facts.slurm.policy if facts.slurm else None
    partition = partition_of(cluster, facts)
    found = _preemption_warning(plan, save, need, policy, partition.name) if policy and partition else []
    if cluster.signal_lead_s < need + MARGIN_S:
        found.append(
            f"cluster.signal_lead_s={cluster.signal_lead_s} is too short for the first save: {save.in_words()}; "
            f"nearest: {need + MARGIN_S:.0f}"
        )
    return found


def _preemption_warning(plan: Plan, save: Save, need: float, policy: Policy, partition: str) -> list[str]:
    grace = policy.grace_s(partition)
    if grace is None or need <= grace:
        return []
    every = plan.config.checkpoint.save_steps
    lost = f"at most checkpoint.save_steps={every} steps are lost" if every else "all steps of the attempt are lost"
    better = _better_partitions(policy, need)
    nearest = f"cluster.partition={' or '.join(better)}, " if better else ""
    text = (
        f"{save.in_words()}, and the grace of partition {partition} is {grace} s: when it preempts, {lost}; "
        f"nearest: {nearest}a smaller checkpoint.save_steps, or a GraceTime of {need:.0f} s from the site"
    )
    return [text]


def _better_partitions(policy: Policy, need: float) -> list[str]:
    """Partitions that give enough time, those that are never preempted included."""
    return [name for name in policy.preemptions if (policy.grace_s(name) or need) >= need]
