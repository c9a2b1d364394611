"""A control group with a limit on memory, made by hand as root; version 1 or 2, as the machine has it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
LIMITS = {
    ROOT / "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    ROOT: ("memory.max", "memory.swap.max"),
}


@contextlib.contextmanager
def memory_group(name: str, limit: int) -> Iterator[tuple[str, ...]]:
    """The words that start a command within a new group of `limit` bytes; a skip where none can be made."""
    group = _make(f"{name}-{os.getpid()}", limit)
    try:
        yield ("bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "in-group")
    finally:
        _remove(group)


def _make(name: str, limit: int) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    for root, (memory, swap) in LIMITS.items():
        try:
            group = root / name
            group.mkdir()
        except OSError:
            continue
        if (group / memory).exists():
            (group / memory).write_text(str(limit))
            if (group / swap).exists():
                (group / swap).write_text(str(limit if "memsw" in swap else 0))
            return group
        group.rmdir()
    pytest.skip("no control group for memory can be made here")


def _remove(group: Path) -> None:
    """Remove the group once its last process is gone."""
    deadline = time.monotonic() + 30
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
