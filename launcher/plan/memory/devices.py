"""How much memory a rank's GPU has: as the site says, else by the GPU's name on this machine or in `gres`."""

from __future__ import annotations

import re

from conf.gpus import slice_of
from conf.schema import ClusterConfig
from launcher.facts.facts import Facts

GIB = 1 << 30
USABLE_GIB = {
    "B300": 268.0,
    "GB200": 184.0,
    "B200": 178.0,
    "H200": 139.8,
    "GH200": 94.5,
    "H20": 95.0,
    "H100 NVL": 93.1,
    "H100": 79.1,
    "H800": 79.1,
    "A100 80GB": 79.1,
    "A100": 39.4,
    "A800": 79.1,
    "L40S": 44.4,
    "L40": 44.4,
    "A40": 44.4,
    "A6000": 47.4,
    "RTX 6000 Ada": 47.4,
    "V100 32GB": 31.7,
    "V100": 15.8,
    "A30": 23.5,
    "A10G": 22.0,
    "A10": 22.0,
    "L4": 22.0,
    "T4": 14.6,
    "RTX 4090": 23.5,
    "RTX 3090": 23.6,
}
"""GiB that a process can take of a GPU, the smaller variant where a name has two: what torch reports as its total
(makers' data sheets less what driver and ECC keep)."""

SLICE_SHARE = 0.95
"""Of the GB in the name of an instance of MIG, the GiB that torch reports (`1g.10gb`: 9.5)."""

_GRES_TYPE = re.compile(r"gpu[:/](?!\d+(?:[,=(]|$))([^:,=()]+)")


def gpu_memory(cluster: ClusterConfig, facts: Facts) -> tuple[int | None, str]:
    """Bytes of one GPU and where the number comes from; None where nobody knows."""
    if cluster.gpu_memory_gib is not None:
        return int(cluster.gpu_memory_gib * GIB), "cluster.gpu_memory_gib"
    for name, source in gpu_names(cluster, facts):
        known = usable_gib(name)
        if known is not None:
            return int(known * GIB), f"{known:g} GiB of {name}, {source}"
    return None, "set cluster.gpu_memory_gib"


def usable_gib(name: str) -> float | None:
    """GiB by a name such as `NVIDIA A100-SXM4-80GB`, `NVIDIA H100 80GB HBM3` or Slurm's `h100`, `h100_1g.10gb`."""
    part = slice_of(name)
    if part is not None:
        return round(SLICE_SHARE * part[1], 1)
    words = set(re.split(r"[\s_-]+", name.upper()))
    known = sorted(USABLE_GIB.items(), key=lambda item: -len(item[0].split()))
    return next((gib for model, gib in known if set(model.upper().split()) <= words), None)


def gpu_names(cluster: ClusterConfig, facts: Facts) -> list[tuple[str, str]]:
    """What the GPUs may be called, and who says so, the surest first."""
    found = [(name, "this machine") for name in facts.gpus[:1]]
    typed = _GRES_TYPE.match((cluster.gres or "").removeprefix("gres/"))
    if typed:
        found.append((typed[1], "cluster.gres"))
    partitions = facts.slurm.partitions if facts.slurm else ()
    for partition in partitions:
        if partition.name == cluster.partition or (cluster.partition is None and partition.default):
            found += _offered(list(dict.fromkeys(_GRES_TYPE.findall(partition.gres))), partition.name, cluster)
    return found


def _offered(kinds: list[str], partition: str, cluster: ClusterConfig) -> list[tuple[str, str]]:
    """The kind of GPU that a partition has; of several the smallest, unless a feature names one."""
    asked = re.split(r"\W+", (cluster.constraint or "").lower())
    kinds = [kind for kind in kinds if kind.lower() in asked] or kinds
    sizes = {kind: usable_gib(kind) for kind in kinds}
    known = {kind: size for kind, size in sizes.items() if size is not None}
    if not known or len(known) < len(sizes):
        return []
    several = f", the smallest of {', '.join(kinds)}; cluster.gres names one" if len(kinds) > 1 else ""
    return [(min(known, key=lambda kind: known[kind]), f"partition {partition}{several}")]
