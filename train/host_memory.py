"""How much of the host's memory can still be taken."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def free_host_bytes() -> int:
    """Memory that can be taken without harm: what the kernel says is available, within this process's control group."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    available = int(found[1]) * 1024 if found else 0
    return min([available, *_control_group_room()])


def host_bytes() -> int:
    """Memory of the host, or what this process's control groups allow of it."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return min([int(found[1]) * 1024 if found else 0, *(limit for _, limit in _limited_groups())])


def _control_group_room() -> list[int]:
    """What each control group above this process still allows, where it sets a limit.

    Cached pages of files count against a group, and go when memory is asked for.
    """
    room = []
    for group, limit in _limited_groups():
        with contextlib.suppress(OSError, ValueError):
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            reclaimable = int(cached[1]) if cached else 0
            room.append(limit - int((group / "memory.current").read_text()) + reclaimable)
    return room


def _limited_groups() -> list[tuple[Path, int]]:
    """The control groups above this process that set a limit (cgroup v2), with it."""
    groups = []
    with contextlib.suppress(OSError, ValueError):
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / own.lstrip("/")
        for group in [folder, *folder.parents]:
            limit = group / "memory.max"
            if limit.exists() and (text := limit.read_text().strip()) != "max":
                groups.append((group, int(text)))
    return groups
