"""Where the ranks are: nodes, ranks on each, what they compute on, how they start, threads of each."""

from __future__ import annotations

import re

from conf.record import Device, Topology
from conf.schema import ClusterConfig, ClusterKind, Start
from launcher.facts.facts import Facts
from slurm.parse import Partition

GPU_THREADS = 8
"""Most threads of a rank that computes on a GPU: the host work there is small, and more threads disturb each other."""

_GRES_GPU = re.compile(r"gpu(?:[:/](?!\d+$)[^:,=()]+)?(?:[:=](\d+))?")


def gpus_of_gres(gres: str | None) -> int:
    """GPUs in a --gres value such as `gpu:h100:8` or `gpu:4,nvme:1`; 0 where it names none."""
    for part in (gres or "").removeprefix("gres/").split(","):
        found = _GRES_GPU.fullmatch(part.strip())
        if found:
            return int(found[1] or 1)
    return 0


def gpus_per_node(cluster: ClusterConfig, facts: Facts) -> int:
    """GPUs of each node: as given, -1 what this machine has, else what `gres` names."""
    if cluster.gpus_per_node < 0:
        return len(facts.gpus)
    return cluster.gpus_per_node or gpus_of_gres(cluster.gres)


def make_topology(cluster: ClusterConfig, facts: Facts, own_process: bool = False) -> tuple[Topology, list[str]]:
    """The topology, and what was derived for it, in words. With `own_process` each rank is another program."""
    gpus = gpus_per_node(cluster, facts)
    ranks = cluster.ranks_per_node or gpus or 1
    device = Device.gpu if gpus else Device.cpu
    start = cluster.start
    notes: list[str] = []
    if own_process:
        start = Start.exec
    if start is Start.auto:
        start = Start.exec if device is Device.gpu else Start.fork
        why = "a forked process cannot use CUDA safely" if device is Device.gpu else "packages are imported once a node"
        notes.append(f"ranks start by {start.value}: {why}")
    cores, source = cores_of_node(cluster, facts)
    threads = max(1, cores // ranks)
    if device is Device.gpu and threads > GPU_THREADS:
        threads = GPU_THREADS
    notes.append(f"threads of a rank: {threads}, from {cores} cores a node ({source}) and ranks a node: {ranks}")
    return Topology(cluster.nodes, ranks, device, start.value, threads), notes


def cores_of_node(cluster: ClusterConfig, facts: Facts) -> tuple[int, str]:
    """Cores that the ranks of a node share, and where the number comes from."""
    if cluster.cpus_per_task:
        return cluster.cpus_per_task, "cluster.cpus_per_task"
    if cluster.kind is ClusterKind.local:
        return facts.cpu_count, "this machine"
    partition = partition_of(cluster, facts)
    if cluster.exclusive and partition and partition.cpus_per_node:
        return partition.cpus_per_node, f"exclusive nodes of partition {partition.name}"
    return 1, "Slurm gives one core where cluster.cpus_per_task is null"


def partition_of(cluster: ClusterConfig, facts: Facts) -> Partition | None:
    """The partition the job goes to, where Slurm told of it."""
    partitions = facts.slurm.partitions if facts.slurm else ()
    for partition in partitions:
        if partition.name == cluster.partition or (cluster.partition is None and partition.default):
            return partition
    return None
