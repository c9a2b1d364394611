"""What a devcluster remembers of itself: its folder, its parts, its processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

INTERFACE = "muster0"
"""Name of the network interface in every node's own network; on loopback it is `lo`."""

FOLDER_VARIABLE = "MUSTER_DEVCLUSTER"
"""Chooses another folder, and so another devcluster."""

DAEMON_MARK = "MUSTER_DEVCLUSTER_OF"
"""Variable in the environment of every daemon of a devcluster; its value is the folder."""


class DevclusterError(Exception):
    """The devcluster cannot do what was asked, and why."""


@dataclass(frozen=True)
class Process:
    """A process that `up` started. The start time (clock ticks since boot) tells it from a later one of the same id."""

    name: str
    pid: int
    started: int


@dataclass(frozen=True)
class Record:
    """A devcluster. `network` is the number of its subnet 10.213.N.0/24, None on loopback; port 0: no database."""

    folder: str
    nodes: int
    cpus_per_node: int
    controller_host: str
    controller_port: int
    node_port: int
    network: int | None
    profile: str = "plain"
    database_port: int = 0
    processes: list[Process] = field(default_factory=list)

    @property
    def slurm_conf(self) -> Path:
        return Path(self.folder) / "slurm.conf"

    @property
    def shared(self) -> Path:
        """A folder for runs that nodes see late, where the profile has that."""
        return Path(self.folder) / "shared"

    @property
    def interface(self) -> str:
        return INTERFACE if self.network is not None else "lo"

    @property
    def controller_address(self) -> str:
        return "127.0.0.1" if self.network is None else f"10.213.{self.network}.1"

    def node_names(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    def node_address(self, number: int) -> str:
        """Address of node 1, 2, …"""
        return "127.0.0.1" if self.network is None else f"10.213.{self.network}.{10 + number}"

    def log(self, name: str) -> Path:
        return Path(self.folder) / "log" / f"{name}.log"

    def with_process(self, process: Process) -> Record:
        return replace(self, processes=[*self.processes, process])

    def write(self) -> None:
        """Keep the record in the folder; written before and after each thing that `down` has to know of."""
        path = Path(self.folder) / "cluster.json"
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        beside.rename(path)


@dataclass(frozen=True)
class Status:
    """How a devcluster stands; `node_states` is Slurm's word on each node."""

    up: bool
    folder: str
    profile: str = ""
    slurm_conf: str = ""
    interface: str = ""
    controller_address: str = ""
    node_states: dict[str, str] = field(default_factory=dict)


def default_folder() -> Path:
    """$MUSTER_DEVCLUSTER, or a folder of this user under /tmp."""
    return Path(os.environ.get(FOLDER_VARIABLE) or f"/tmp/muster-devcluster-{os.getuid()}")


def read_record(folder: Path) -> Record | None:
    """The record in a folder, None where there is none that can be trusted: only our own and root's are."""
    path = folder / "cluster.json"
    try:
        if path.stat().st_uid not in (0, os.getuid()):
            return None
        fields = json.loads(path.read_text())
        processes = [Process(**process) for process in fields.pop("processes")]
        return Record(**fields, processes=processes)
    except (OSError, ValueError, TypeError, KeyError):
        return None
