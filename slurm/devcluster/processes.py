"""Processes of a devcluster: starting them, knowing them again, ending them and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from slurm.devcluster.record import DAEMON_MARK, DevclusterError, Process, Record

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(record: Record, name: str, argv: Sequence[str], more: Mapping[str, str] | None = None) -> Process:
    """Start a daemon of the devcluster, in its own session, writing into its log; `more` are variables for it alone."""
    variables = {
        **(more or {}),
        "PATH": PATH,
        "SLURM_CONF": str(record.slurm_conf),
        DAEMON_MARK: record.folder,
    }
    with record.log(name).open("ab") as log:
        daemon = subprocess.Popen(
            argv, env=variables, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    began = start_time(daemon.pid)
    if began is None:
        raise DevclusterError(f"{name} ended at once; {tail(record.log(name))}")
    return Process(name, daemon.pid, began)


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None where it is gone or only a zombie (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def lives(process: Process) -> bool:
    """Whether it is still the process that was started."""
    return start_time(process.pid) == process.started


def remaining(folder: Path, namespaces: Iterable[int] = ()) -> list[Process]:
    """Every process that belongs to the devcluster of a folder: marked by its environment or inside its networks.

    The marks are handed down from daemon to step; jobs of a user carry SLURM_CONF and the node's name.
    """
    mark = f"{DAEMON_MARK}={folder}".encode()
    conf = f"SLURM_CONF={folder}/slurm.conf".encode()
    inodes = set(namespaces)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            names = (entry / "environ").read_bytes().split(b"\0")
            in_namespace = bool(inodes) and (entry / "ns" / "net").stat().st_ino in inodes
        except OSError:
            continue
        in_job = conf in names and any(name.startswith(b"SLURMD_NODENAME=") for name in names)
        began = start_time(int(entry.name))
        if began is not None and (in_namespace or in_job or mark in names):
            found.append(Process(entry.name, int(entry.name), began))
    return found


def inside(namespace: int) -> list[Process]:
    """Every process in the network namespace of that inode."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            is_inside = (entry / "ns" / "net").stat().st_ino == namespace
        except OSError:
            continue
        began = start_time(int(entry.name))
        if is_inside and began is not None:
            found.append(Process(entry.name, int(entry.name), began))
    return found


def end(processes: Sequence[Process], patience_s: float = 5.0) -> None:
    """End processes: SIGTERM, then SIGKILL after `patience_s` (0: that alone); returns when all are gone.

    Raises:
        DevclusterError: some cannot be ended.
    """
    politely = [(signal.SIGTERM, patience_s)] if patience_s > 0 else []
    for number, wait_s in (*politely, (signal.SIGKILL, 5.0)):
        for process in processes:
            if lives(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        deadline = time.monotonic() + wait_s
        while any(map(lives, processes)) and time.monotonic() < deadline:
            _reap(processes)
            time.sleep(0.05)
    _reap(processes)
    left = [f"{process.name} ({process.pid})" for process in processes if lives(process)]
    if left:
        raise DevclusterError(f"still there after SIGKILL: {', '.join(left)}")


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, for a message."""
    try:
        return f"{path} ends with:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"{path} was not written"


def _reap(processes: Sequence[Process]) -> None:
    """Take in the exit of those that this very process started."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
