"""The checkpoints in a run folder: which there are, whether they verify, and putting aside those that do not."""

from __future__ import annotations

import shutil
from pathlib import Path

from conf.layout import RunFolder
from train.checkpoint.manifest import BadCheckpointError, Manifest, read_manifest, verify_part, verify_sizes
from train.distributed import World


def list_checkpoints(folder: RunFolder) -> tuple[list[int], int]:
    """Steps that have a folder, newest first, and how many folders are quarantined; removes interrupted saves."""
    if not folder.checkpoints.is_dir():
        return [], 0
    steps = []
    quarantined = 0
    for path in folder.checkpoints.iterdir():
        if path.name.startswith(".step-"):
            shutil.rmtree(path, ignore_errors=True)
        elif ".bad" in path.name:
            quarantined += 1
        elif path.name.startswith("step-") and path.name[5:].isdigit():
            steps.append(int(path.name[5:]))
    return sorted(steps, reverse=True), quarantined


def checked_manifest(path: Path) -> tuple[Manifest | None, str | None]:
    """The manifest, if every file it names is there with its length; else why not."""
    try:
        manifest = read_manifest(path)
        verify_sizes(path, manifest)
    except BadCheckpointError as error:
        return None, str(error)
    return manifest, None


def verified(path: Path, world: World) -> tuple[Manifest | None, str]:
    """A checkpoint's manifest if all ranks together find that its files agree with it, else why not; a collective."""
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
