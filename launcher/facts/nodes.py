"""What the ledger says of the nodes that a job may get, and which nodes those are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from conf.node_ledger import DEFAULT_FOLDER, Suspect, read_suspects
from conf.schema import ClusterConfig
from launcher.facts.slurm import PATIENCE_S, SlurmFacts


@dataclass(frozen=True)
class NodeFacts:
    """`ledger` is its folder. `names` are the nodes of the job's partition, asked for only where some node is bad."""

    ledger: str = ""
    suspects: tuple[Suspect, ...] = ()
    names: tuple[str, ...] = ()


def gather_nodes(cluster: ClusterConfig, slurm: SlurmFacts, cwd: Path) -> NodeFacts:
    """Read the ledger; with a bad node in it, ask Slurm for the names of the nodes."""
    folder = ledger_folder(cluster, slurm.cluster_name, cwd)
    suspects = tuple(read_suspects(folder, time.time()))
    names = _names(cluster, slurm) if any(suspect.is_bad for suspect in suspects) else ()
    return NodeFacts(str(folder), suspects, names)


def ledger_folder(cluster: ClusterConfig, cluster_name: str, cwd: Path) -> Path:
    """The ledger's folder: `cluster.node_ledger`, else one of the person's own for each cluster."""
    if cluster.node_ledger:
        return Path(cwd, Path(cluster.node_ledger).expanduser()).absolute()
    return Path(DEFAULT_FOLDER).expanduser() / (cluster_name or "default")


def _names(cluster: ClusterConfig, slurm: SlurmFacts) -> tuple[str, ...]:
    from slurm.client import Client, SlurmError

    chosen = cluster.partition or next((found.name for found in slurm.partitions if found.default), None)
    try:
        return tuple(Client(slurm.slurm_conf, patience_s=PATIENCE_S).node_names(chosen))
    except SlurmError:
        return ()
