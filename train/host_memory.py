"""How much of the host's memory can still be taken."""

from __future__ import annotations

import re
from pathlib import Path


def free_host_bytes() -> int:
    """Memory that can be taken without harm: what the kernel says is available, within this process's control group."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    available = int(found[1]) * 1024 if found else 0
    return min([available, *_control_group_room()])


def _control_group_room() -> list[int]:
    """What each control group above this process still allows (cgroup v2), where it sets a limit.

    Cached pages of files count against a group, and go when memory is asked for.
    """
    room = []
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / own.lstrip("/")
        for group in [folder, *folder.parents]:
            limit = group / "memory.max"
            if limit.exists() and (text := limit.read_text().strip()) != "max":
                cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                reclaimable = int(cached[1]) if cached else 0
                room.append(int(text) - int((group / "memory.current").read_text()) + reclaimable)
    except (OSError, ValueError):
        return room
    return room
