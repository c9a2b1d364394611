"""What Slurm says of itself before a plan: version, partitions, limits. Absent Slurm is recorded, not raised."""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import ClusterConfig
from slurm.parse import Partition
from slurm.policy import Policy

PATIENCE_S = 5.0
DEVCLUSTER = "devcluster"
"""Value of `cluster.slurm_conf` that stands for the Slurm of `muster devcluster up`."""


@dataclass(frozen=True)
class SlurmFacts:
    """What Slurm said. `error` holds its own words where it could not be asked."""

    slurm_conf: str | None = None
    version: str = ""
    partitions: tuple[Partition, ...] = ()
    max_array_size: int | None = None
    policy: Policy | None = None
    error: str = ""
    cluster_name: str = ""


def gather_slurm(cluster: ClusterConfig) -> SlurmFacts:
    """Ask the cluster of `cluster.slurm_conf`, or the machine's own."""
    from slurm import devcluster  # not at the top: a local run has no use for Slurm's commands
    from slurm.client import Client, SlurmError

    conf = cluster.slurm_conf
    if conf == DEVCLUSTER:
        conf = devcluster.find()
        if conf is None:
            return SlurmFacts(error="no devcluster runs on this machine; start one: muster devcluster up")
    client = Client(conf, patience_s=PATIENCE_S)
    try:
        size, name = client.settings("MaxArraySize", "ClusterName")
        largest = int(size) if size and size.isdigit() else None
        version, partitions = client.version(), tuple(client.partitions())
        return SlurmFacts(conf, version, partitions, largest, client.policy(cluster.qos), cluster_name=name or "")
    except SlurmError as error:
        return SlurmFacts(conf, error=str(error))
