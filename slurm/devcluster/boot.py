"""Starting the daemons of a devcluster, from its folder to the last idle node."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import socket
import time
from pathlib import Path

from slurm.commands import SlurmError, run_once
from slurm.devcluster import accounting, config, network, processes
from slurm.devcluster.profiles import PROFILES, Profile
from slurm.devcluster.record import DevclusterError, Record

BOOT_S = 60.0


def make_folders(state: Path) -> None:
    """Make the folder of a devcluster with its key.

    Raises:
        DevclusterError: it is there already.
    """
    try:
        state.mkdir(mode=0o755)
    except FileExistsError:
        raise DevclusterError(f"{state} exists and is not ours; remove it or set MUSTER_DEVCLUSTER") from None
    for name in ("munge", "log", "run", "controller", "spool"):
        (state / name).mkdir(mode=0o755)
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))


def boot(state: Path, nodes: int, cpus_per_node: int, on_loopback: bool, profile: Profile) -> Record:
    """Write the configuration, make the networks and start every daemon; the record is kept after each step."""
    record = Record(
        folder=str(state),
        nodes=nodes,
        cpus_per_node=cpus_per_node,
        controller_host=socket.gethostname().split(".")[0],
        controller_port=_free_port(6850),
        node_port=_free_port(7000, nodes + 1) if on_loopback else 6818,
        network=None if on_loopback else network.free_network(1 + os.getuid() % 250),
        profile=profile.name,
        database_port=_free_port(6900) if profile.accounts else 0,
    )
    record.write()
    user = pwd.getpwuid(os.geteuid()).pw_name
    _write_files(record, profile, user)
    if record.network is not None:
        network.make(record)
    munged = ["munged", "--foreground", f"--key-file={state}/munge.key", f"--socket={state}/munge/socket"]
    munged += [f"--{name}-file={state}/run/munged.{name}" for name in ("pid", "seed")]
    record = _start(record, "munged", [*munged, f"--log-file={state}/log/munged.log"])
    _wait_for(state / "munge" / "socket", record)
    if profile.accounts:
        record = _start_accounting(record, user)
    record = _start(record, "slurmctld", controller_argv(record))
    for number, name in enumerate(record.node_names(), start=1):
        (state / "spool" / name).mkdir(mode=0o755)
        record = _start(record, name, node_argv(record, number))
    return record


def controller_argv(record: Record) -> list[str]:
    """What starts the slurmctld."""
    return ["slurmctld", "-D", "-f", str(record.slurm_conf)]


def node_argv(record: Record, number: int) -> list[str]:
    """What starts the slurmd of node 1, 2, … in its own network, where it has one."""
    name, state = record.node_names()[number - 1], Path(record.folder)
    if record.network is None:
        return ["slurmd", "-D", "-N", name, "-f", str(record.slurm_conf)]
    script, space = Path(__file__).with_name("node.sh"), network.namespace_path(record.network, number)
    argv = ["bash", *map(str, (script, space, name, state / "hosts", state / "nsswitch.conf", record.slurm_conf))]
    late_s = PROFILES[record.profile].late_s
    return [*argv, str(record.shared), str(late_s)] if late_s else argv


def finish(record: Record, profile: Profile) -> None:
    """What a profile wants done once all nodes wait for work.

    Raises:
        DevclusterError: Slurm refuses it.
    """
    if profile.accounts:
        accounting.write_accounts(record, profile)
        accounting.join(record, profile, pwd.getpwuid(os.geteuid()).pw_name)
    for words in profile.commands:
        try:
            run_once(["scontrol", *(config.with_nodes(word, record) for word in words)], str(record.slurm_conf))
        except SlurmError as error:
            raise DevclusterError(f"scontrol {' '.join(words)}: {error}") from error


def _write_files(record: Record, profile: Profile, user: str) -> None:
    state = Path(record.folder)
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    record.slurm_conf.write_text(config.slurm_conf(record, profile, user, memory_mib))
    (state / "hosts").write_text(config.hosts(record))
    (state / "nsswitch.conf").write_text(config.NSSWITCH)
    if profile.gpus:
        (state / "gres.conf").write_text(config.gres_conf(record, profile))
        (state / "gpus").mkdir()
        for number in range(profile.gpus):
            (state / "gpus" / f"gpu{number}").touch()
    for name, content in profile.files.items():
        (state / name).write_text(content)
    if profile.late_s:
        record.shared.mkdir()
        record.shared.chmod(0o1777)


def _start_accounting(record: Record, user: str) -> Record:
    """MariaDB and slurmdbd, before the controller asks for them."""
    folder = Path(record.folder) / "database"
    accounting.make_database(folder, user)
    record = _start(record, "mariadbd", accounting.database_argv(folder, user))
    _wait_for(accounting.socket_of(folder), record)
    conf = Path(record.folder) / "slurmdbd.conf"
    conf.touch(mode=0o600)  # slurmdbd starts with no other
    conf.write_text(accounting.slurmdbd_conf(record, user))
    record = _start(record, "slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(accounting.socket_of(folder)))
    accounting.register(record)
    return record


def _start(record: Record, name: str, argv: list[str], **variables: str) -> Record:
    more = record.with_process(processes.start(record, name, argv, variables))
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


def wait_until_idle(record: Record) -> None:
    """Come back when every node waits for work.

    Raises:
        DevclusterError: a daemon ended, or it takes longer than `BOOT_S`.
    """
    deadline = time.monotonic() + BOOT_S
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        dead = next((process for process in record.processes if not processes.lives(process)), None)
        if dead is not None:
            raise DevclusterError(f"{dead.name} ended; {processes.tail(record.log(dead.name))}")
        states = node_states(record)
        if len(states) == record.nodes and all(state == "idle" for state in states.values()):
            return
        time.sleep(0.2)
    raise DevclusterError(f"after {BOOT_S:.0f} s the nodes are {states}; {processes.tail(record.log('slurmctld'))}")


def node_states(record: Record) -> dict[str, str]:
    """Slurm's word on each node; empty while the controller does not answer."""
    with contextlib.suppress(SlurmError):
        answer = run_once(["sinfo", "--noheader", "--Node", "--format=%N %T"], str(record.slurm_conf), 10)
        states = {}
        for line in answer.stdout.splitlines():
            name, _, state = line.partition(" ")
            states[name] = state
        return states
    return {}
