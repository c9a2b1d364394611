"""A checkpoint that another number of ranks wrote, converted beside it.

`step-….universal` lies in the same folder, is no checkpoint itself and has a manifest of its own: the next attempt uses
it again where it verifies. It goes when a newer checkpoint is there, or its own is gone.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from train import universal
from train.checkpoint.jobs import STATES
from train.checkpoint.manifest import Entry, Manifest, read_manifest, write_manifest
from train.checkpoint.shared_work import Told, follow, neighbours
from train.checkpoint.stock import verified
from train.checkpoint.storage import sha256_of
from train.distributed import World


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint, and the seconds that it took: 0 where an earlier attempt had made it."""

    path: Path
    manifest: Manifest
    seconds: float = 0.0

    @property
    def files(self) -> frozenset[Path]:
        return frozenset(self.path / entry.name for entry in self.manifest.files)


def converted(checkpoint: Path, target: Path, manifest: Manifest, world: World, told: Told) -> Converted:
    """The verified `checkpoint` in `target`, for any number of ranks; a collective.

    `told` hears of the parts that are done, and of all. Where it fails nothing is left behind.

    Raises:
        OSError: as the file system said to one rank, on all of them.
        RuntimeError: DeepSpeed's converter failed; its words.
    """
    known = _earlier(target, manifest, world)
    if known is not None:
        return Converted(target, known)
    started = time.monotonic()
    beside = target.with_name(f".{target.name}.partial")

    def story(deal: Callable[..., list[Any]]) -> None:
        for left in (target, beside):
            shutil.rmtree(left, ignore_errors=True)
        _require_room(checkpoint, manifest)
        universal.convert(checkpoint / STATES, beside / STATES, deal)
        names = sorted(path.relative_to(beside).as_posix() for path in (beside / STATES).rglob("*.pt"))
        write_manifest(beside, replace(manifest, files=deal(partial(_entry, beside), list(enumerate(names)))))
        beside.rename(target)

    try:
        follow(world, neighbours(world), story, told)
    except Exception:
        if world.first:
            shutil.rmtree(beside, ignore_errors=True)
        raise
    made = world.said_by_first(read_manifest(target) if world.first else manifest)
    return Converted(target, made, time.monotonic() - started)


def _earlier(target: Path, manifest: Manifest, world: World) -> Manifest | None:
    """The manifest of a conversion of the same checkpoint that is there already and verifies; a collective."""
    if not world.said_by_first(world.first and target.is_dir()):
        return None
    known, _ = verified(target, world)
    return known if known is not None and replace(known, files=manifest.files) == manifest else None


def _require_room(checkpoint: Path, manifest: Manifest) -> None:
    """The pieces of all states and what is joined of them lie on the disk together for a while."""
    free, needed = shutil.disk_usage(checkpoint).free, 2 * manifest.size
    if free < needed:
        words = f"converting {checkpoint.name} takes {needed:,} bytes for a while, and {free:,} are free"
        raise OSError(errno.ENOSPC, words, str(checkpoint.parent))


def _entry(folder: Path, numbered: tuple[int, str]) -> Entry:
    """The manifest's entry of a file; whoever verifies it is chosen by its number."""
    number, name = numbered
    return Entry(name, *sha256_of(folder / name), rank=number)
