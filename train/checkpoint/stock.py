"""The checkpoints in a run folder: which there are, whether they verify, putting aside those that do not, and removing.

Imports no torch: the process that writes beside the training removes what is too old.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from conf.layout import RunFolder
from train.checkpoint.manifest import BadCheckpointError, Manifest, read_manifest, verify_part, verify_sizes

if TYPE_CHECKING:
    from train.distributed import World


def list_checkpoints(folder: RunFolder) -> tuple[list[int], int]:
    """Steps that have a folder, newest first, and how many folders are quarantined."""
    if not folder.checkpoints.is_dir():
        return [], 0
    steps = []
    quarantined = 0
    for path in folder.checkpoints.iterdir():
        if ".bad" in path.name:
            quarantined += 1
        elif path.name.startswith("step-") and path.name[5:].isdigit():
            steps.append(int(path.name[5:]))
    return sorted(steps, reverse=True), quarantined


def remove_leftovers(folder: RunFolder) -> None:
    """Remove what interrupted saves have left."""
    for path in folder.checkpoints.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: RunFolder, keep: int, best: int | None = None) -> list[int]:
    """Remove all but the newest `keep` checkpoints; returns the steps removed.

    The newest whose files are all there with their length is never removed, nor that of the step `best`.
    """
    steps, _ = list_checkpoints(folder)
    whole = next((step for step in steps if _is_whole(folder.checkpoint(step))), None)
    removed = [step for step in steps[max(keep, 1) :] if step not in (whole, best)]
    for step in removed:
        with contextlib.suppress(OSError):
            # A folder that is half removed must not look like a checkpoint.
            hidden = folder.checkpoint(step).with_name(f".step-{step:08d}.removed")
            folder.checkpoint(step).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
    _remove_conversions(folder, whole)
    return removed


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint's files are seen to be all there."""
    with contextlib.suppress(OSError):
        return checked_manifest(path)[0] is not None
    return False


def _remove_conversions(folder: RunFolder, newest: int | None) -> None:
    """Remove the conversions that nobody will load: of checkpoints that are gone, or older than the `newest` whole."""
    for path in folder.checkpoints.glob("step-*.universal"):
        step = int(path.name[5:].partition(".")[0])
        if not folder.checkpoint(step).is_dir() or (newest is not None and step < newest):
            shutil.rmtree(path, ignore_errors=True)


def checked_manifest(path: Path) -> tuple[Manifest | None, str | None]:
    """The manifest, if every file it names is there with its length; else why not.

    Raises:
        OSError: the file system failed, which says nothing of the checkpoint.
    """
    try:
        manifest = read_manifest(path)
        verify_sizes(path, manifest)
    except BadCheckpointError as error:
        return None, str(error)
    return manifest, None


def verified(path: Path, world: World) -> tuple[Manifest | None, str]:
    """A checkpoint's manifest if all ranks together find that its files agree with it, else why not; a collective.

    Raises:
        OSError: this rank's file system failed, which says nothing of the checkpoint.
    """
    manifest, reason = world.said_by_first(checked_manifest(path) if world.first else (None, None))
    if manifest is not None:
        reason = next(filter(None, world.gather(_own_part_reason(path, manifest, world))), None)
    return (manifest, "") if reason is None else (None, reason)


def _own_part_reason(path: Path, manifest: Manifest, world: World) -> str | None:
    try:
        verify_part(path, manifest, world.rank, world.size)
    except BadCheckpointError as error:
        return str(error)
    return None


def quarantine(path: Path) -> Path:
    """Rename a checkpoint that does not verify, so that it is never tried again, and keep it for a look."""
    for number in range(1, 1000):
        name = path.with_name(f"{path.name}.bad" if number == 1 else f"{path.name}.bad{number}")
        if not name.exists():
            return path.rename(name)
    raise FileExistsError(f"there are too many quarantined copies of {path}")
