"""Bringing a devcluster up, asking how it stands, taking it down without leaving anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from slurm.devcluster import boot, network, processes
from slurm.devcluster.profiles import PLAIN, Profile
from slurm.devcluster.record import DevclusterError, Record, Status, default_folder, read_record

PACKAGES = "apt-get install slurm-wlm munge iproute2"
PACKAGES_OF_STRICT = f"{PACKAGES} slurmdbd mariadb-server-core bindfs"
NEEDED = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
NEEDED_BY_ROOT = ("ip", "nsenter", "unshare", "hostname", "mount")
NEEDED_BY_ACCOUNTS = ("mariadbd", "slurmdbd", "sacctmgr", "sacct")
NEEDED_BY_LATE_FILES = ("bindfs",)


def up(
    nodes: int = 4,
    cpus_per_node: int = 4,
    folder: Path | None = None,
    loopback: bool | None = None,
    profile: Profile = PLAIN,
) -> Record:
    """Bring a devcluster up and wait until all its nodes are idle; one that is up with as many nodes is kept.

    Each node is its own host (network, host name, /etc/hosts) where root makes that possible, else (`loopback`) all
    nodes are slurmds on 127.0.0.1 and only this user can submit.

    Raises:
        DevclusterError: something is missing or did not start; nothing is left then.
    """
    state = folder or default_folder()
    on_loopback = os.geteuid() != 0 if loopback is None else loopback
    _check(nodes, cpus_per_node, on_loopback, profile)
    with _locked(state):
        current = read_record(state)
        if current is not None and _alive(current):
            if (current.nodes, current.cpus_per_node, current.profile) == (nodes, cpus_per_node, profile.name):
                return current
            size = f"{current.nodes} nodes of {current.cpus_per_node} CPUs"
            raise DevclusterError(f"{state} is up with {size} and profile {current.profile}; down first")
        _remove(state)
        boot.make_folders(state)
        try:
            record = boot.boot(state, nodes, cpus_per_node, on_loopback, profile)
            boot.wait_until_idle(record)
            boot.finish(record, profile)
        except BaseException:
            _remove(state)
            raise
        return record


def down(folder: Path | None = None) -> bool:
    """End every process of a devcluster and remove its networks and its folder; whether there was anything.

    Ends only what `up` started and what runs inside it. May be repeated; also after a crash.
    """
    state = folder or default_folder()
    if not state.exists() and network.network_of(state) is None:
        return False
    with _locked(state):
        return _remove(state)


def status(folder: Path | None = None) -> Status:
    """How a devcluster stands: the one of a folder, else the one that `find` finds."""
    record = _find() if folder is None else _read_alive(folder)
    if record is None:
        return Status(up=False, folder=str(folder or default_folder()))
    return Status(
        up=True,
        folder=record.folder,
        profile=record.profile,
        slurm_conf=str(record.slurm_conf),
        interface=record.interface,
        controller_address=record.controller_address,
        node_states=boot.node_states(record),
    )


def find() -> str | None:
    """The slurm.conf of a devcluster that is up: this user's own, else root's; None where there is none."""
    record = _find()
    return str(record.slurm_conf) if record is not None else None


def _find() -> Record | None:
    candidates = map(_read_alive, (default_folder(), Path("/tmp/muster-devcluster-0")))
    return next((record for record in candidates if record is not None), None)


def _read_alive(folder: Path) -> Record | None:
    record = read_record(folder)
    return record if record is not None and _alive(record) else None


def _check(nodes: int, cpus_per_node: int, on_loopback: bool, profile: Profile) -> None:
    if not 1 <= nodes <= 200 or cpus_per_node < 1:
        raise DevclusterError(f"{nodes} nodes of {cpus_per_node} CPUs: from 1 to 200 nodes of at least 1 CPU")
    if nodes < 2 and profile.gpus:
        raise DevclusterError(f"profile {profile.name} has nodes with GPUs and nodes without: at least 2 nodes")
    if on_loopback and profile.late_s:
        raise DevclusterError(f"profile {profile.name} gives each node its own view of the files, which needs root")
    needed = [*NEEDED, *(() if on_loopback else NEEDED_BY_ROOT)]
    needed += NEEDED_BY_ACCOUNTS if profile.accounts else ()
    needed += NEEDED_BY_LATE_FILES if profile.late_s else ()
    missing = [
        name for name in needed if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None
    ]
    if missing:
        packages = PACKAGES if profile is PLAIN else PACKAGES_OF_STRICT
        raise DevclusterError(f"{', '.join(missing)} not installed: {packages}")


def _alive(record: Record) -> bool:
    return bool(record.processes) and all(
        processes.lives(process) for process in record.processes if process.name in ("munged", "slurmctld")
    )


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One `up` or `down` at a time. The lock lies beside the folder and goes with it."""
    path = state.with_name(f"{state.name}.lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                break
        os.close(descriptor)
    try:
        yield
    finally:
        if not state.exists():
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _remove(state: Path) -> bool:
    """End and remove everything of a devcluster; whether there was anything."""
    record = read_record(state)
    number = record.network if record is not None else network.network_of(state)
    if os.geteuid() == 0 and number is None:
        number = network.network_of(state)
    ours = [process for process in record.processes if processes.lives(process)] if record is not None else []
    processes.end(ours)
    for _ in range(3):
        left = processes.remaining(state, network.inodes(number) if number is not None else ())
        if not left:
            break
        processes.end(left, patience_s=1.0)
    if number is not None:
        network.remove(number)
    existed = state.exists()
    if existed:
        if state.stat().st_uid != os.getuid():
            raise DevclusterError(f"{state} belongs to another user")
        shutil.rmtree(state)
    return existed or number is not None or bool(ours)
