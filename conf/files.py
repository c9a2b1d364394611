"""Writing files so that nobody ever reads half of one, and reading those that others may be writing."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `content` beside `path`, flush it to the disk and rename it into place.

    The umask does not widen or narrow `mode`; the folder has to exist.

    Raises:
        OSError: as the file system says; nothing is left beside `path` then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise


def is_visible_file(path: Path) -> bool:
    """Whether there is such a file, as far as this user may see; `Path.is_file` raises for a folder that is closed."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file with one a line; lines that were cut short, or a file that is missing, hold none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if isinstance(one, dict):
            found.append(one)
    return found
