"""How much of the host's memory can still be taken."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MEMINFO, CGROUP, CGROUP_ROOT = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """Names in a control group's folder: of its limit, of what it has, and of the cached pages in `memory.stat`."""

    limit: str
    taken: str
    cached: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


def free_host_bytes(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> int:
    """Memory that can be taken without harm: what the kernel says is available, within this process's control group."""
    return min([_kernel_says("MemAvailable"), *_control_group_room(cgroup, root)])


def host_bytes(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> int:
    """Memory of the host, or what this process's control groups allow of it."""
    return min([_kernel_says("MemTotal"), *(limit for _, limit, _ in _limited_groups(cgroup, root))])


def _kernel_says(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _control_group_room(cgroup: Path, root: Path) -> list[int]:
    """What each control group above this process still allows, where it sets a limit.

    Cached pages of files count against a group, and go when memory is asked for.
    """
    room = []
    for group, limit, files in _limited_groups(cgroup, root):
        with contextlib.suppress(OSError, ValueError):
            cached = re.search(rf"^{files.cached} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            reclaimable = int(cached[1]) if cached else 0
            room.append(limit - int((group / files.taken).read_text()) + reclaimable)
    return room


def _limited_groups(cgroup: Path, root: Path) -> list[tuple[Path, int, _Files]]:
    """The control groups above this process that set a limit, with it."""
    groups = []
    for folder, files in _own_groups(cgroup, root):
        for group in [folder, *folder.parents]:
            with contextlib.suppress(OSError, ValueError):  # no such file, or `max`
                groups.append((group, int((group / files.limit).read_text()), files))
    return groups


def _own_groups(cgroup: Path, root: Path) -> Iterator[tuple[Path, _Files]]:
    """This process's control groups that may limit memory, of either version."""
    with contextlib.suppress(OSError, ValueError):
        for line in cgroup.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers == "":
                yield root / name.lstrip("/"), _VERSION_2
            elif "memory" in controllers.split(","):
                yield root / "memory" / name.lstrip("/"), _VERSION_1
