"""What Slurm says of itself before a plan: version, partitions, limits. Absent Slurm is recorded, not raised."""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import ClusterConfig


@dataclass(frozen=True)
class Partition:
    """A partition of a Slurm cluster; limits are None where it has none."""

    name: str
    default: bool = False
    nodes: int | None = None
    max_nodes: int | None = None
    time_limit_s: int | None = None
    cpus_per_node: int | None = None
    mem_mib_per_node: int | None = None
    gres: str = ""


@dataclass(frozen=True)
class SlurmFacts:
    """What Slurm said. `error` holds its own words where it could not be asked."""

    slurm_conf: str | None = None
    version: str = ""
    partitions: tuple[Partition, ...] = ()
    max_array_size: int | None = None
    error: str = ""


def gather_slurm(cluster: ClusterConfig) -> SlurmFacts:
    return SlurmFacts(cluster.slurm_conf)
