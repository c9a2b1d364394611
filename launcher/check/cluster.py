"""What a machine or a Slurm cluster cannot give, and values that no job script can hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from conf.schema import ClusterConfig, ClusterKind, ContainerRuntime, Continuation, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.topology import gpus_of_gres, partition_of
from launcher.problems import Problem, nearest
from slurm import duration, memory, options

OWNED_OPTIONS = {
    "job-name": "name",
    "output": "nothing: logs lie in the run folder",
    "error": "nothing: logs lie in the run folder",
    "open-mode": "nothing: logs are kept over requeues",
    "chdir": "nothing: the run folder is the working folder",
    "nodes": "cluster.nodes",
    "ntasks": "cluster.ranks_per_node",
    "ntasks-per-node": "cluster.ranks_per_node",
    "signal": "cluster.signal_lead_s",
    "requeue": "cluster.continuation=requeue",
    "no-requeue": "cluster.continuation=none",
    "export": "cluster.env, cluster.pass_env",
    "array": "nothing: a run is one job",
    "gpus": "cluster.gpus_per_node",
    "gpus-per-node": "cluster.gpus_per_node",
    "gpus-per-task": "cluster.gpus_per_node",
    "gres": "cluster.gres",
    "container-image": "cluster.container.image",
}
OWNED_OPTIONS |= {
    name.replace("_", "-"): f"cluster.{name}"
    for name in (
        *("account", "partition", "qos", "time", "cpus_per_task", "mem"),
        *("constraint", "nodelist", "exclude", "reservation", "exclusive"),
    )
}
"""sbatch options that have a key of their own → that key."""

SLURM_ONLY = ("gres", "account", "partition", "qos", "time", "constraint", "nodelist", "exclude", "reservation", "mem")
"""Keys that mean something to a scheduler alone."""

OWNED_VARIABLES = re.compile(
    r"MUSTER_.*|SLURM_.*|SBATCH_.*|SRUN_.*|MASTER_ADDR|MASTER_PORT|(LOCAL_|GROUP_)?RANK|(LOCAL_)?WORLD_SIZE|TORCHELASTIC_.*|"
    r"DS_ACCELERATOR|PATH|HOME|USER|SHELL|BASH_ENV|ENV"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTERFACE = re.compile(r"\^?=?[A-Za-z0-9_.:-]+(,[A-Za-z0-9_.:-]+)*")
_SUFFIX = re.compile(r"[A-Za-z0-9.-]*")
_ADAPTER = re.compile(r"(?!mlx[0-9]_?$)[A-Za-z0-9_.:-]+")
"""A whole name: `mlx5`, by which NCCL takes all of a kind where no `=` is before it, would name none of them."""
_CHOSEN = re.compile(r"\^?=?")
"""How NCCL is told what a list of adapters means: all but these, or these exactly."""
_MOUNT = re.compile(r"[^:]+:[^:]+(:[^:]+)?")


def cluster_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What does not go with the kind of cluster, its nodes, or the files of a job."""
    cluster = config.cluster
    if cluster.kind is ClusterKind.local:
        yield from _local_problems(cluster, facts)
    else:
        yield from _slurm_problems(cluster, facts)
    yield from _gpu_problems(cluster, facts)
    yield from _container_problems(cluster)
    yield from _environment_problems(cluster)
    yield from _network_problems(cluster)
    yield from _line_problems(cluster)


def _local_problems(cluster: ClusterConfig, facts: Facts) -> Iterator[Problem]:
    if cluster.nodes > 1:
        yield Problem(
            "cluster.nodes", str(cluster.nodes), "is more than this machine; several nodes need cluster=slurm", "1"
        )
    given: dict[str, Any] = {name: getattr(cluster, name) for name in SLURM_ONLY}
    given |= {"exclusive": cluster.exclusive or None, "sbatch": cluster.sbatch or None}
    for name, value in given.items():
        if value is not None:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            yield Problem(
                f"cluster.{name}", shown, "means something to Slurm alone, and this run is local", "cluster=slurm"
            )
    if cluster.gpus_per_node > len(facts.gpus):
        rule = f"is more than the {len(facts.gpus)} GPUs of this machine"
        yield Problem("cluster.gpus_per_node", str(cluster.gpus_per_node), rule, f"{len(facts.gpus)}")
    if cluster.container.runtime is ContainerRuntime.pyxis:
        yield Problem("cluster.container.runtime", "pyxis", "is a part of srun, and this run is local", "apptainer")


def _slurm_problems(cluster: ClusterConfig, facts: Facts) -> Iterator[Problem]:
    if cluster.gpus_per_node < 0:
        yield Problem("cluster.gpus_per_node", "-1", "counts the GPUs of this machine; a cluster needs the number", "8")
    if cluster.mem is not None and not memory.FORM.fullmatch(cluster.mem):
        rule = "has to be a whole number with K, M, G or T; '0' is all of a node"
        yield Problem("cluster.mem", cluster.mem, rule, "900G")
    yield from _time_problems(cluster)
    for name, value in cluster.sbatch.items():
        option = options.spelling(str(name))
        if option in OWNED_OPTIONS:
            yield Problem(f"cluster.sbatch.{name}", str(value), "has a key of its own", OWNED_OPTIONS[option])
    for problem in options.check(cluster.sbatch):
        if problem.option not in OWNED_OPTIONS:
            yield Problem(f"cluster.sbatch.{problem.option}", problem.value[:80], problem.rule)
    texts = {name: getattr(cluster, name) for name in SLURM_ONLY if name not in ("time", "mem")}
    for problem in options.check(texts):
        yield Problem(f"cluster.{problem.option}", repr(problem.value[:80]), problem.rule)
    yield from _partition_problems(cluster, facts)
    if cluster.requeue is not None and cluster.continuation is not Continuation.auto:
        rule = f"is the older name of cluster.continuation={cluster.continuation.value}; give one of them"
        yield Problem("cluster.requeue", str(cluster.requeue).lower(), rule, "cluster.requeue=null")
    if cluster.python and "/" in cluster.python and not cluster.python.startswith("/"):
        rule = "is a relative path; nodes start elsewhere, so give it in full"
        yield Problem("cluster.python", cluster.python, rule, f"{facts.cwd}/{cluster.python}" if facts.cwd else "")


def _time_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    limit = _limit_s(cluster)
    if cluster.time is not None and limit == 0:
        yield Problem("cluster.time", cluster.time, f"is not a time of Slurm's: {duration.FORMS}", "'12:30:00'")
    elif limit and cluster.signal_lead_s >= limit:
        rule = f"s before a time limit of {limit} s leaves no time to train"
        yield Problem("cluster.signal_lead_s", str(cluster.signal_lead_s), rule, str(max(limit // 10, 1)))


def _limit_s(cluster: ClusterConfig) -> int | None:
    """Seconds of `cluster.time`; None without a limit, 0 where it cannot be read."""
    if cluster.time is None:
        return None
    try:
        return duration.seconds(cluster.time)
    except ValueError:
        return 0


def _partition_problems(cluster: ClusterConfig, facts: Facts) -> Iterator[Problem]:
    partitions = facts.slurm.partitions if facts.slurm else ()
    if not partitions:
        return
    names = [partition.name for partition in partitions]
    for name in (cluster.partition or "").split(","):
        if name and name not in names:
            rule = f"is not a partition; there are {', '.join(names)}"
            yield Problem("cluster.partition", name, rule, nearest(name, names))
    partition = partition_of(cluster, facts)
    if partition is None:
        return
    most = min((number for number in (partition.nodes, partition.max_nodes) if number is not None), default=None)
    if most is not None and cluster.nodes > most:
        rule = f"is more than the {most} nodes a job may have in partition {partition.name}"
        yield Problem("cluster.nodes", str(cluster.nodes), rule, str(most))
    limit, allowed = _limit_s(cluster), partition.time_limit_s
    if limit and allowed and limit > allowed:
        rule = f"is more than the time limit of partition {partition.name}"
        yield Problem("cluster.time", str(cluster.time), rule, f"'{duration.written(allowed)}'")
    cores = partition.cpus_per_node if partition.most_cpus == 0 else partition.most_cpus
    if cluster.cpus_per_task and cores and cluster.cpus_per_task > cores:
        whose = "the largest node" if partition.most_cpus else "a node"
        rule = f"is more than the {cores} cores of {whose} in partition {partition.name}"
        yield Problem("cluster.cpus_per_task", str(cluster.cpus_per_task), rule, str(cores))


def _gpu_problems(cluster: ClusterConfig, facts: Facts) -> Iterator[Problem]:
    named, given = gpus_of_gres(cluster.gres), cluster.gpus_per_node
    if named and given > 0 and named != given:
        rule = f"does not agree with cluster.gres={cluster.gres}, which has {named}"
        yield Problem("cluster.gpus_per_node", str(given), rule, str(named))
    gpus = len(facts.gpus) if given < 0 else given or named
    ranks = cluster.ranks_per_node or 0
    if gpus > 0 and ranks > gpus:
        rule = f"is more than the {gpus} GPUs of a node, and each rank needs one; gpus_per_node=0 computes on the CPU"
        yield Problem("cluster.ranks_per_node", str(ranks), rule, str(gpus))


def _container_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    container = cluster.container
    if container.runtime is not ContainerRuntime.none and not container.image:
        yield Problem(
            "cluster.container.image", "", f"is needed with runtime={container.runtime.value}", "image.sqsh, image.sif"
        )
    if container.runtime is ContainerRuntime.none and container.image:
        yield Problem("cluster.container.image", container.image, "needs cluster.container.runtime", "pyxis, apptainer")
    for mount in container.mounts:
        if not _MOUNT.fullmatch(mount) or "," in mount or _has_control(mount):
            yield Problem(
                "cluster.container.mounts",
                repr(mount),
                "has to be source:target or source:target:flags",
                "/data:/data:ro",
            )
    for name in container.env:
        if not _VARIABLE.fullmatch(name):
            yield Problem("cluster.container.env", repr(name), "is no name of a variable")


def _environment_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    for name, value in cluster.env.items():
        if not _VARIABLE.fullmatch(name):
            yield Problem(f"cluster.env.{name!r}", "", "is no name of a variable: letters, digits and `_`")
        elif OWNED_VARIABLES.fullmatch(name):
            yield Problem(f"cluster.env.{name}", value, "is set by Muster or the system; cluster.setup can change it")
        if "\n" in value or "\0" in value:
            yield Problem(
                f"cluster.env.{name}", repr(value[:80]), "has several lines or a zero byte, which job files cannot hold"
            )
    for name in cluster.pass_env:
        if not _VARIABLE.fullmatch(name):
            yield Problem("cluster.pass_env", repr(name), "is no name of a variable: letters, digits and `_`")


def _network_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    network = cluster.network
    if network.interface is not None and not _INTERFACE.fullmatch(network.interface):
        yield Problem("cluster.network.interface", repr(network.interface), "is no name of a network interface", "ib0")
    if not _SUFFIX.fullmatch(network.host_suffix):
        yield Problem("cluster.network.host_suffix", repr(network.host_suffix), "is no part of a host name", "-ib")
    for place, adapter in enumerate(network.ib_hcas):
        name = adapter if place else _CHOSEN.sub("", adapter, count=1)
        if not _ADAPTER.fullmatch(name):
            rule = "is no whole name of an InfiniBand adapter"
            if place and _ADAPTER.fullmatch(adapter.lstrip("^=")):
                rule = "says by ^ or = what the whole list means, which the first adapter alone can say"
            yield Problem("cluster.network.ib_hcas", repr(adapter), rule, adapter.lstrip("^=") if place else "mlx5_0")


def _line_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    """Values that become one line of a file each."""
    lines = [("cluster.modules", value) for value in cluster.modules]
    lines += [("cluster.scratch", cluster.scratch), ("cluster.python", cluster.python or "")]
    lines += [("cluster.container.image", cluster.container.image), ("cluster.slurm_conf", cluster.slurm_conf or "")]
    for key, value in lines:
        if _has_control(value):
            yield Problem(key, repr(value[:80]), "has control characters, which job files cannot hold")
    if not cluster.scratch.startswith("/"):
        yield Problem("cluster.scratch", cluster.scratch, "has to be an absolute path on the node", "/tmp")


def _has_control(value: str) -> bool:
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in value)
