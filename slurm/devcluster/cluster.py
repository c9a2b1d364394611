"""Bringing a devcluster up, asking how it stands, taking it down without leaving anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from slurm.commands import SlurmError, run_once
from slurm.devcluster import config, network, processes
from slurm.devcluster.record import DevclusterError, Record, Status, default_folder, read_record

PACKAGES = "apt-get install slurm-wlm munge iproute2"
NEEDED = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
NEEDED_BY_ROOT = ("ip", "nsenter", "unshare", "hostname", "mount")
BOOT_S = 60.0


def up(nodes: int = 4, cpus_per_node: int = 4, folder: Path | None = None, loopback: bool | None = None) -> Record:
    """Bring a devcluster up and wait until all its nodes are idle; one that is up with as many nodes is kept.

    Each node is its own host (network, host name, /etc/hosts) where root makes that possible, else (`loopback`) all
    nodes are slurmds on 127.0.0.1 and only this user can submit.

    Raises:
        DevclusterError: something is missing or did not start; nothing is left then.
    """
    state = folder or default_folder()
    on_loopback = os.geteuid() != 0 if loopback is None else loopback
    _check(nodes, cpus_per_node, on_loopback)
    with _locked(state):
        current = read_record(state)
        if current is not None and _alive(current):
            if current.nodes == nodes and current.cpus_per_node == cpus_per_node:
                return current
            raise DevclusterError(
                f"{state} is up with {current.nodes} nodes of {current.cpus_per_node} CPUs; down first"
            )
        _remove(state)
        _make_folders(state)
        try:
            record = _boot(state, nodes, cpus_per_node, on_loopback)
            _wait_until_idle(record)
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
        slurm_conf=str(record.slurm_conf),
        interface=record.interface,
        controller_address=record.controller_address,
        node_states=_node_states(record),
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


def _check(nodes: int, cpus_per_node: int, on_loopback: bool) -> None:
    if not 1 <= nodes <= 200 or cpus_per_node < 1:
        raise DevclusterError(f"{nodes} nodes of {cpus_per_node} CPUs: from 1 to 200 nodes of at least 1 CPU")
    needed = NEEDED if on_loopback else NEEDED + NEEDED_BY_ROOT
    missing = [
        name for name in needed if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None
    ]
    if missing:
        raise DevclusterError(f"{', '.join(missing)} not installed: {PACKAGES}")


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


def _make_folders(state: Path) -> None:
    try:
        state.mkdir(mode=0o755)
    except FileExistsError:
        raise DevclusterError(f"{state} exists and is not ours; remove it or set MUSTER_DEVCLUSTER") from None
    for name in ("munge", "log", "run", "controller", "spool"):
        (state / name).mkdir(mode=0o755)
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def _boot(state: Path, nodes: int, cpus_per_node: int, on_loopback: bool) -> Record:
    record = Record(
        folder=str(state),
        nodes=nodes,
        cpus_per_node=cpus_per_node,
        controller_host=socket.gethostname().split(".")[0],
        controller_port=_free_port(6850),
        node_port=_free_port(7000, nodes + 1) if on_loopback else 6818,
        network=None if on_loopback else network.free_network(1 + os.getuid() % 250),
    )
    record.write()
    user = pwd.getpwuid(os.geteuid()).pw_name
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    record.slurm_conf.write_text(config.slurm_conf(record, user, memory_mib))
    (state / "hosts").write_text(config.hosts(record))
    (state / "nsswitch.conf").write_text(config.NSSWITCH)
    if record.network is not None:
        network.make(record)
    munged = ["munged", "--foreground", f"--key-file={state}/munge.key", f"--socket={state}/munge/socket"]
    munged += [f"--{name}-file={state}/run/munged.{name}" for name in ("pid", "seed")]
    record = _start(record, "munged", [*munged, f"--log-file={state}/log/munged.log"])
    _wait_for(state / "munge" / "socket", record)
    record = _start(record, "slurmctld", ["slurmctld", "-D", "-f", str(record.slurm_conf)])
    for number, name in enumerate(record.node_names(), start=1):
        (state / "spool" / name).mkdir(mode=0o755)
        argv = ["slurmd", "-D", "-N", name, "-f", str(record.slurm_conf)]
        if record.network is not None:
            script = Path(__file__).with_name("node.sh")
            space = network.namespace_path(record.network, number)
            argv = [
                "bash",
                str(script),
                str(space),
                name,
                f"{state}/hosts",
                f"{state}/nsswitch.conf",
                str(record.slurm_conf),
            ]
        record = _start(record, name, argv)
    return record


def _start(record: Record, name: str, argv: list[str]) -> Record:
    more = record.with_process(processes.start(record, name, argv))
    more.write()
    return more


def _free_port(first: int, count: int = 1) -> int:
    """The first of `count` ports in a row that nobody listens on."""
    for port in range(first, first + 1000, count):
        if all(_is_free(candidate) for candidate in range(port, port + count)):
            return port
    raise DevclusterError(f"no {count} free ports from {first} on")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("", port))
        except OSError:
            return False
        return True


def _wait_for(path: Path, record: Record) -> None:
    deadline = time.monotonic() + BOOT_S
    while not path.exists():
        if time.monotonic() > deadline or not all(map(processes.lives, record.processes)):
            raise DevclusterError(f"{path} did not appear; {processes.tail(record.log('munged'))}")
        time.sleep(0.02)


def _wait_until_idle(record: Record) -> None:
    deadline = time.monotonic() + BOOT_S
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        dead = next((process for process in record.processes if not processes.lives(process)), None)
        if dead is not None:
            raise DevclusterError(f"{dead.name} ended; {processes.tail(record.log(dead.name))}")
        states = _node_states(record)
        if len(states) == record.nodes and all(state == "idle" for state in states.values()):
            return
        time.sleep(0.2)
    raise DevclusterError(f"after {BOOT_S:.0f} s the nodes are {states}; {processes.tail(record.log('slurmctld'))}")


def _node_states(record: Record) -> dict[str, str]:
    with contextlib.suppress(SlurmError):
        answer = run_once(
            ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T"], str(record.slurm_conf), 10
        )
        states = {}
        for line in answer.stdout.splitlines():
            name, _, state = line.partition(" ")
            states[name] = state
        return states
    return {}


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
