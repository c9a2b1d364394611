"""What a node's kernel counts: processors, memory, disks, network. Each look is the change since the one before."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from train.host_memory import free_host_bytes, host_bytes

MIB, GIB = 1 << 20, 1 << 30
SECTOR = 512
"""Bytes of a sector in /proc/diskstats, whatever the disk's own: https://docs.kernel.org/admin-guide/iostats.html"""
WORD = 4
"""Bytes of a unit of InfiniBand's data counters: https://docs.kernel.org/infiniband/sysfs.html"""
NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
"""Block devices that are no disks, or stand for disks that are counted themselves."""


@dataclass(frozen=True)
class Counts:
    """Counters since the node started, at a moment. Bytes, and for processors clock ticks."""

    time: float
    busy: int
    ticks: int
    read: int
    written: int
    received: int
    sent: int


class Counters:
    """Looks at the kernel's counters; the first look is at what was since this was made."""

    def __init__(self, scratch: Path):
        """`scratch` is the node-local folder whose disk may fill up."""
        self._scratch = scratch
        self._before = read_counts()

    def look(self) -> dict[str, float]:
        """Rates since the last look, and what is taken now; what cannot be read is left out."""
        now, before = read_counts(), self._before
        self._before = now
        seconds, ticks = max(now.time - before.time, 1e-9), now.ticks - before.ticks
        values = {
            "disk_read_mib_s": (now.read - before.read) / MIB / seconds,
            "disk_write_mib_s": (now.written - before.written) / MIB / seconds,
            "network_receive_mib_s": (now.received - before.received) / MIB / seconds,
            "network_send_mib_s": (now.sent - before.sent) / MIB / seconds,
        }
        if ticks > 0:
            values["cpu_percent"] = 100 * (now.busy - before.busy) / ticks
        total = host_bytes()
        taken = total - min(total, free_host_bytes())
        values |= {"memory_gib": taken / GIB, "memory_percent": 100 * taken / max(1, total)}
        try:
            scratch = shutil.disk_usage(self._scratch)
            values["scratch_percent"] = 100 * scratch.used / max(1, scratch.total)
        except OSError:
            pass
        return values


def read_counts() -> Counts:
    """All counters at this moment."""
    busy, ticks = _processors()
    read, written = _sums(_disks())
    received, sent = _sums(_links())
    return Counts(time.monotonic(), busy, ticks, read, written, received, sent)


def _processors() -> tuple[int, int]:
    """Busy and all clock ticks of all processors: user nice system idle iowait irq softirq steal."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)


def _disks() -> Iterator[tuple[int, int]]:
    """Bytes read from and written to each disk."""
    for line in _lines(Path("/proc/diskstats")):
        words = line.split()
        if len(words) > 9 and not words[2].startswith(NO_DISKS) and Path("/sys/block", words[2]).exists():
            yield int(words[5]) * SECTOR, int(words[9]) * SECTOR


def _links() -> Iterator[tuple[int, int]]:
    """Bytes received and sent over each link but the loopback: hardware where there is some, else what there is."""
    links = {}
    for line in _lines(Path("/proc/net/dev"))[2:]:
        name, _, counts = line.partition(":")
        words = counts.split()
        if name.strip() != "lo" and len(words) > 8:
            links[name.strip()] = int(words[0]), int(words[8])
    hardware = {name: moved for name, moved in links.items() if Path("/sys/class/net", name, "device").exists()}
    yield from (hardware or links).values()
    for port in Path("/sys/class/infiniband").glob("*/ports/*/counters"):
        try:
            received, sent = ((port / f"port_{way}_data").read_text() for way in ("rcv", "xmit"))
            yield int(received) * WORD, int(sent) * WORD
        except (OSError, ValueError):
            continue


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _sums(pairs: Iterator[tuple[int, int]]) -> tuple[int, int]:
    first = second = 0
    for one, other in pairs:
        first, second = first + one, second + other
    return first, second
