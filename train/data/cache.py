"""Folders that are made once and shared by runs: made beside, renamed into place, and never changed after.

Several processes may make the same folder at once, on several nodes; whoever renames first wins and the others take
what is there. Nothing rests on locks of a shared file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conf.schema import Access

WEIGHTS = ".safetensors"


def make_root(folder: Path, access: Access) -> None:
    """A cache's own folder, with what is in it for the person alone or for the group too; one that is there is kept."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o2750 if access is Access.group else 0o700)


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
    """Files of `source` in `folder`: copies, but of weights hard links where the file system allows it.

    Two names of one file share its mode, so a change of rights in a run folder would reach the cache; weights are too
    large to lie there twice for that.
    """
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in leave:
            target = folder / file.name
            if file.suffix != WEIGHTS or not _linked(file, target):
                shutil.copyfile(file, target)


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file, target)
    except OSError:
        return False
    return True


def _flush(folder: Path) -> None:
    """Have the disk hold every file of a folder before its name appears."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def content_key(*parts: Any) -> str:
    """SHA-256 over plain values, as 32 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
