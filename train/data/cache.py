"""Folders that are made once and shared by runs: made beside, renamed into place, and never changed after.

Several processes may make the same folder at once, on several nodes; whoever renames first wins and the others take
what is there. Nothing rests on locks of a shared file system.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def made_beside(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` at the end of the block, unless someone else made it meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.parent / f".{target.name}.{socket.gethostname()}.{os.getpid()}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        _flush(beside)
        try:
            beside.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def made_once(target: Path, make: Callable[[Path], None]) -> bool:
    """Make `target` with `make(folder)` where it is not there; whether it was there already."""
    if target.is_dir():
        return True
    with made_beside(target) as folder:
        make(folder)
    return False


def link_or_copy(source: Path, folder: Path, leave: frozenset[str] = frozenset()) -> None:
    """Files of `source` in `folder`: hard links where the file system allows it, else copies."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in leave:
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copy2(file, folder / file.name)


def _flush(folder: Path) -> None:
    """Have the disk hold every file of a folder before its name appears."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
