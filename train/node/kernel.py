"""What the kernel did to the processes of a node: ended them for want of memory, saw a GPU fail, saw a crash.

Counters of control groups say how many it ended; its log, where it may be read, says which and why.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

CGROUP, CGROUP_ROOT, VMSTAT, LOG = (
    Path("/proc/self/cgroup"),
    Path("/sys/fs/cgroup"),
    Path("/proc/vmstat"),
    Path("/dev/kmsg"),
)
TELLING = re.compile(
    r"out of memory|nvrm: |xid|fallen off the bus|segfault at|traps: |hardware error|machine check"
    r"|nfs: server|lustre.*(?:error|evict)|i/o error",
    re.IGNORECASE,
)
LINES = 20
SHARED_MEMORY = Path("/dev/shm")


class KernelWatch:
    """What has happened since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._kills = count_memory_kills()

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process of this job here for want of memory."""
        return count_memory_kills() > self._kills

    def lines(self) -> list[str]:
        """The kernel's lines on memory, GPUs, crashes and shared disks; empty where its log may not be read."""
        return read_log(self._began)


def count_memory_kills(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT, vmstat: Path = VMSTAT) -> int:
    """Processes of this job that the kernel has ended for want of memory; where no group counts, of the machine."""
    counted = [count for path in _counters(cgroup, root) if (count := _read_counter(path, "oom_kill")) is not None]
    return max(counted) if counted else _read_counter(vmstat, "oom_kill") or 0


def _counters(cgroup: Path, root: Path) -> Iterator[Path]:
    """The counters of this process's control group and those around it, up to the job's."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            base, file = root, "memory.events"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.oom_control"
        else:
            continue
        group = Path(name.lstrip("/"))
        yield base / group / file
        if any(part.startswith("job_") for part in group.parts):
            while not group.name.startswith("job_"):
                group = group.parent
                yield base / group / file


def _read_counter(path: Path, name: str) -> int | None:
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
        return int(fields[name])
    except (OSError, ValueError, KeyError):
        return None


def read_log(since: float, path: Path = LOG) -> list[str]:
    """The telling lines of the kernel's log since a moment of the monotonic clock; each is `[seconds] text`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    found = []
    try:
        while record := _next_record(descriptor):
            stamp, text = record
            if stamp >= since and TELLING.search(text):
                found.append(f"[{stamp:.3f}] {text}")
    finally:
        os.close(descriptor)
    return found[-LINES:]


def _next_record(descriptor: int) -> tuple[float, str] | None:
    """Time since boot and text of the next record, `6,1234,739417567,-;text`; None after the last."""
    while True:
        try:
            record = os.read(descriptor, 8192).decode(errors="replace")
        except BrokenPipeError:  # it was overwritten while this read; the next one is there
            continue
        except OSError:
            return None
        head, found, text = record.partition(";")
        if not found:
            return None
        microseconds = head.split(",")[2] if head.count(",") >= 2 else ""
        if microseconds.isdigit():
            return int(microseconds) / 1e6, text.splitlines()[0] if text else ""


def describe_shared_memory(folder: Path = SHARED_MEMORY) -> str:
    """How full the node's shared memory is, such as `/dev/shm has 0 of 64 MiB free`; empty where there is none."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    free, whole = (blocks * found.f_frsize >> 20 for blocks in (found.f_bavail, found.f_blocks))
    return f"{folder} has {free} of {whole} MiB free"


def is_shared_memory_full(folder: Path = SHARED_MEMORY) -> bool:
    """Whether hardly anything (1 %) is left of the node's shared memory: a write to it then ends in SIGBUS."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_blocks > 0 and found.f_bavail * 100 < found.f_blocks
