"""What is known of the run root before a plan: whether it can be used, and which runs have the name already."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from conf.layout import RunFolder
from launcher.plan.content import HASH_DIGITS, flat_content

_HASH = re.compile(rf"[0-9a-f]{{{HASH_DIGITS}}}")


@dataclass(frozen=True)
class ExistingRun:
    """A run folder. `content` is its configuration without free keys, flat: dotted key → value; `chosen` tells whether
    `parallel=auto` chose a part of it."""

    run_id: str
    name: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)
    chosen: bool = False


def gather_runs(run_root: Path, name: str) -> tuple[tuple[ExistingRun, ...], str]:
    """The runs called `name`, and why no run can be made in `run_root` (empty where one can)."""
    error = root_error(run_root)
    try:
        with os.scandir(run_root) as entries:
            ids = sorted(entry.name for entry in entries if is_id_of(entry.name, name))
    except OSError:
        return (), error
    runs = (read_run(run_root / run_id, name) for run_id in ids)
    return tuple(run for run in runs if run is not None), error


def is_id_of(run_id: str, name: str) -> bool:
    """Whether `run_id` is `name`, a dash and the digits of a hash."""
    start, _, digits = run_id.rpartition("-")
    return start == name and _HASH.fullmatch(digits) is not None


def read_run(path: Path, name: str) -> ExistingRun | None:
    """A run by its folder; None where there is no run in it that can be read."""
    try:
        plan = msgspec.json.decode(RunFolder(path).run_json.read_bytes())
        chosen = plan.get("choice") is not None
        return ExistingRun(path.name, name, str(path), flat_content(plan["config"]), chosen)
    except (OSError, msgspec.DecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def root_error(run_root: Path) -> str:
    """Why no run folder can be made in `run_root`: not ours to write in, or open to everyone."""
    here = run_root
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        found = here.stat()
    except OSError as error:
        return f"{here}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{here} is not a folder"
    if not os.access(here, os.W_OK | os.X_OK):
        return f"{here} cannot be written in"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"{here} can be written in by everyone: others could exchange run folders"
    return ""
