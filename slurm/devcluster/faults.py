"""Breaking a devcluster on purpose, and mending it: nodes without power, cables cut, no controller.

Nodes and cables need networks of their own (root).
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from slurm.devcluster import boot, network, processes
from slurm.devcluster.record import DevclusterError, Record, default_folder, read_record

KILL_S = 10.0
CONTROLLER = "slurmctld"


def kill_node(name: str, folder: Path | None = None) -> None:
    """A node loses its power: its link goes first, so that no peer hears of it, then every process on it.

    Slurm notices after its SlurmdTimeout, 15 s here.
    """
    record, number = _node(name, folder)
    network.switch_link(record, number, on=False)
    (inode,) = network.inodes(_network(record), number)
    deadline = time.monotonic() + KILL_S
    while found := processes.inside(inode):
        if time.monotonic() > deadline:
            raise DevclusterError(f"{name} still has {len(found)} processes after SIGKILL")
        processes.end(found, patience_s=0.0)


def restore_node(name: str, folder: Path | None = None) -> None:
    """A killed node starts again; one that runs only has its link back."""
    record, number = _node(name, folder)
    network.switch_link(record, number, on=True)
    if any(process.name == name and processes.lives(process) for process in record.processes):
        return
    others = [process for process in record.processes if process.name != name]
    rest = dataclasses.replace(record, processes=others)
    rest.with_process(processes.start(record, name, boot.node_argv(record, number))).write()


def cut_link(*names: str, folder: Path | None = None) -> None:
    """The nodes no longer reach each other; Slurm's controller and the other nodes still reach all of them."""
    _isolate(names, folder, cut=True)


def mend_link(*names: str, folder: Path | None = None) -> None:
    """The nodes reach each other again."""
    _isolate(names, folder, cut=False)


def unplug(name: str, folder: Path | None = None) -> None:
    """A node loses its network: nobody reaches it, its processes go on. `restore_node` plugs it in again."""
    record, number = _node(name, folder)
    network.switch_link(record, number, on=False)


def kill_controller(folder: Path | None = None) -> None:
    """Slurm's controller is gone from one moment to the next; what runs on the nodes goes on."""
    record = _record(folder)
    processes.end([process for process in record.processes if process.name == CONTROLLER], patience_s=0.0)


def restore_controller(folder: Path | None = None) -> None:
    """The controller starts again from what it has kept; it answers a moment later."""
    record = _record(folder)
    others = [process for process in record.processes if process.name != CONTROLLER]
    rest = dataclasses.replace(record, processes=others)
    rest.with_process(processes.start(record, CONTROLLER, boot.controller_argv(record))).write()


def _isolate(names: tuple[str, ...], folder: Path | None, cut: bool) -> None:
    if len(names) < 2:
        raise DevclusterError("a link has two ends: name two nodes at least")
    for name in names:
        record, number = _node(name, folder)
        network.isolate(record, number, cut)


def _record(folder: Path | None) -> Record:
    state = folder or default_folder()
    record = read_record(state)
    if record is None:
        raise DevclusterError(f"no devcluster in {state}")
    return record


def _node(name: str, folder: Path | None) -> tuple[Record, int]:
    record = _record(folder)
    if record.network is None:
        raise DevclusterError("nodes on loopback share one network; only those of root's devcluster can be broken")
    if name not in record.node_names():
        raise DevclusterError(f"no node {name}; nodes: {', '.join(record.node_names())}")
    return record, record.node_names().index(name) + 1


def _network(record: Record) -> int:
    assert record.network is not None
    return record.network
