"""Every way in which a run may be computed, as far as its keys are free: the space that `parallel=auto` searches. Pure.

Nothing in it changes what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from conf.choice import NODES
from conf.record import Batch, Device
from conf.schema import ClusterKind, Offload, Packing, Precision, RunConfig
from launcher.facts.facts import Facts
from launcher.plan import batch as batches
from launcher.plan.rows import document_tokens
from launcher.plan.topology import make_topology, partition_of

INTERVALS = (0, 1, 2, 4)
"""Every how many layers are computed again; 0: none."""

MOST_NODES = 64
"""Nodes up to which `cluster.nodes=auto` looks where neither `cluster.max_nodes` nor the partition says less."""


@dataclass(frozen=True, order=True)
class Family:
    """How the model states are sharded; `group` is hpZ's."""

    stage: int
    optimizer_on_host: bool = False
    weights_on_host: bool = False
    group: int = 1


@dataclass(frozen=True, order=True)
class Candidate:
    """One way. Of two that cost the same the smaller one is taken: fewer nodes, a lower stage, less computed again."""

    nodes: int
    family: Family
    interval: int
    micro: int


def applied(config: RunConfig, candidate: Candidate) -> RunConfig:
    """The configuration with the candidate's keys."""
    family = candidate.family
    parallel = replace(
        config.parallel,
        zero_stage=family.stage,
        offload_optimizer=Offload.cpu if family.optimizer_on_host else Offload.none,
        offload_param=Offload.cpu if family.weights_on_host else Offload.none,
        hpz_partition_size=family.group,
        auto=[],
    )
    train = replace(
        config.train,
        per_device_train_batch_size=candidate.micro,
        gradient_checkpointing=candidate.interval > 0,
        gradient_checkpointing_interval=max(1, candidate.interval),
    )
    return replace(config, parallel=parallel, train=train, cluster=replace(config.cluster, nodes=candidate.nodes))


def free_keys(config: RunConfig) -> set[str]:
    """The keys that are to be chosen."""
    return set(config.parallel.auto) | ({NODES} if config.cluster.nodes == 0 else set())


class Space:
    """The candidates of one configuration, with the batch of each."""

    def __init__(self, config: RunConfig, facts: Facts, packing: str):
        self.config, self.facts = config, facts
        self.packed = packing != Packing.none.value
        self.free = free_keys(config)
        self.most_by_batch: int | None = None
        topology, _ = make_topology(replace(config.cluster, nodes=1), facts)
        self.per_node, self.device = topology.ranks_per_node, topology.device
        self._tokens = document_tokens(config, facts)
        self._batches: dict[tuple[int, int], Batch | None] = {}

    def nodes(self) -> list[int]:
        """Numbers of nodes: powers of two and the most there may be, with a document for each rank."""
        cluster = self.config.cluster
        if NODES not in self.free:
            return [cluster.nodes]
        if cluster.kind is ClusterKind.local:
            return [1]
        partition = partition_of(cluster, self.facts)
        offered = (partition.nodes, partition.max_nodes) if partition else ()
        most = min([cluster.max_nodes or MOST_NODES, *(number for number in offered if number)])
        total = self.config.train.global_batch_size
        self.most_by_batch = total // self.per_node if total // self.per_node < most else None
        counts = {1 << power for power in range(most.bit_length()) if 1 << power <= most} | {most}
        return [count for count in sorted(counts) if count * self.per_node <= total] or [1]

    def families(self, nodes: int) -> Iterator[Family]:
        """Stages, what is offloaded, hpZ; what is given stays."""
        parallel, free = self.config.parallel, self.free
        every_stage = (0, 1, 2, 3) if self.config.train.precision is Precision.fp32 else (1, 2, 3)
        stages = every_stage if "parallel.zero_stage" in free else (parallel.zero_stage,)
        both = (False, True) if self.device is Device.gpu else (False,)
        given = parallel.offload_optimizer is Offload.cpu, parallel.offload_param is Offload.cpu
        optimizers = both if "parallel.offload_optimizer" in free else (given[0],)
        weights = both if "parallel.offload_param" in free else (given[1],)
        own = (1, self.per_node) if nodes > 1 and self.per_node > 1 and self.device is Device.gpu else (1,)
        groups = own if "parallel.hpz_partition_size" in free else (parallel.hpz_partition_size,)
        for stage in stages:
            for on_host in optimizers:
                for weights_too in weights:
                    for group in groups:
                        family = Family(stage, on_host, weights_too, group)
                        if self._is_possible(family):
                            yield family

    def _is_possible(self, family: Family) -> bool:
        """Of what was given the checks speak; what is chosen keeps to their rules."""
        free = self.free
        if family.optimizer_on_host and family.stage == 0 and "parallel.offload_optimizer" in free:
            return False
        weights = family.weights_on_host and "parallel.offload_param" in free
        if weights and (family.stage < 3 or not family.optimizer_on_host):
            return False
        hpz = family.group != 1 and "parallel.hpz_partition_size" in free
        return not hpz or (family.stage == 3 and not family.optimizer_on_host and not family.weights_on_host)

    def intervals(self) -> tuple[int, ...]:
        """Every how many layers may be computed again."""
        train, free = self.config.train, self.free
        given = train.gradient_checkpointing_interval
        spaced = INTERVALS[1:] if "train.gradient_checkpointing_interval" in free else (given,)
        if "train.gradient_checkpointing" in free:
            return (0, *spaced)
        return spaced if train.gradient_checkpointing else (0,)

    def micros(self, ranks: int) -> list[int]:
        """Micro batches for so many ranks: divisors of a rank's documents; packed, rows up to what a step fills."""
        train = self.config.train
        total = train.global_batch_size
        given = train.per_device_train_batch_size
        if given is not None:
            return [given]
        if not self.packed:
            if total % ranks:
                return []
            per_rank = total // ranks
            if train.gradient_accumulation_steps is not None:
                micro, rest = divmod(per_rank, train.gradient_accumulation_steps)
                return [micro] if micro and not rest else []
            return [micro for micro in range(1, per_rank + 1) if per_rank % micro == 0]
        length = self.config.data.max_length
        mean = min(self._tokens or length, length)
        most = max(1, ceil(ceil(total / ranks) * mean / length))
        return [1 << power for power in range((most - 1).bit_length() + 1)]

    def batch(self, ranks: int, micro: int) -> Batch | None:
        """The batch with this micro batch; None where it does not divide."""
        key = (ranks, micro)
        if key not in self._batches:
            self._batches[key] = self._made(ranks, micro)
        return self._batches[key]

    def _made(self, ranks: int, micro: int) -> Batch | None:
        train = replace(self.config.train, per_device_train_batch_size=micro)
        try:
            if self.packed:
                return batches.packed_batch(train, ranks, self.config.data.max_length, self._tokens)
            return batches.padded_batch(train, ranks)
        except ValueError:
            return None

    def candidates(self, nodes: int, family: Family) -> Iterator[Candidate]:
        """Every candidate of a family on so many nodes."""
        ranks = nodes * self.per_node
        for micro in self.micros(ranks):
            if self.batch(ranks, micro) is not None:
                for interval in self.intervals():
                    yield Candidate(nodes, family, interval, micro)


def overrides_of(candidate: Candidate, free: set[str], accumulation: int | None = None) -> dict[str, Any]:
    """The chosen keys with their values, in the order of the configuration."""
    family = candidate.family
    values: dict[str, Any] = {
        NODES: candidate.nodes,
        "parallel.zero_stage": family.stage,
        "parallel.offload_optimizer": "cpu" if family.optimizer_on_host else "none",
        "parallel.offload_param": "cpu" if family.weights_on_host else "none",
        "parallel.hpz_partition_size": family.group,
        "train.per_device_train_batch_size": candidate.micro,
        "train.gradient_checkpointing": candidate.interval > 0,
        "train.gradient_checkpointing_interval": max(1, candidate.interval),
    }
    return {key: value for key, value in values.items() if key in free}
