"""How fast saves went in the runs of a run root, which is how fast its file system takes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from conf.layout import RunFolder
from conf.timing import read_timing

LOOKED_AT = 50
"""Newest runs that are looked at: a run root may have thousands."""


@dataclass(frozen=True)
class MeasuredSave:
    """The last save of a run: bytes of all ranks together, and the seconds that it took."""

    run_id: str
    size: int
    seconds: float


def gather_saves(run_root: Path) -> tuple[MeasuredSave, ...]:
    """The measured saves of the newest runs, newest first."""
    try:
        with os.scandir(run_root) as entries:
            folders = [(entry.stat().st_mtime, entry.name) for entry in entries if entry.is_dir()]
    except OSError:
        return ()
    names = [name for _, name in sorted(folders, reverse=True)[:LOOKED_AT]]
    measured = ((name, read_timing(RunFolder(run_root / name).timing)) for name in names)
    return tuple(MeasuredSave(name, timing.save_bytes, timing.save_s) for name, timing in measured if timing.save_s > 0)
