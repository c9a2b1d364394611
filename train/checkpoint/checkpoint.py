"""Checkpoints: written beside, verified by their manifest, renamed into place; only what verifies is read.

A folder named `step-…` is whole or it is quarantined as `step-….bad`. Ranks agree by collectives; rank 0 alone lists,
renames and removes folders.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conf.layout import RunFolder
from conf.outcome import Cause
from train.checkpoint import random_state
from train.checkpoint.manifest import Manifest, entries, write_manifest
from train.checkpoint.stock import checked_manifest, list_checkpoints, quarantine, verified
from train.checkpoint.storage import WrittenFile, flush_folder
from train.distributed import World, attempted
from train.engine import Engine

STATES = "states"
UNIVERSAL_CHECKPOINT_INFO = {"universal_checkpoint_version": 0.4}
"""DeepSpeed's converter refuses stages 0 to 2 without it (`deepspeed/checkpoint/constants.py`)."""


class CheckpointError(Exception):
    """The run cannot go on from its checkpoints; the words say why and what to do."""

    cause = Cause.checkpoint


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint that verified."""

    step: int
    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Saved:
    """How a save went: seconds, bytes over all ranks, and why there is no checkpoint, where there is none."""

    step: int
    seconds: float
    bytes: int
    error: str | None = None


def save(engine: Engine, world: World, folder: RunFolder, step: int, state: dict[str, Any]) -> Saved:
    """Write `checkpoints/step-…`; a collective. `state` comes back from `load` and is JSON-like and small.

    A full disk, or another error of the file system, removes what was written and comes back as `Saved.error`; older
    checkpoints stay. A step that is already saved is left as it is.

    Raises:
        RuntimeError: a rank failed for another reason than its file system.
    """
    started = time.monotonic()
    target = folder.checkpoint(step)
    if world.said_by_first(target.exists()):
        return Saved(step, 0.0, 0)
    partial = target.with_name(f".{target.name}.partial")
    error = world.said_by_first(attempted(lambda: _make_folders(partial)) if world.first else None)
    if error is None:
        client_state = {"muster": state, "universal_checkpoint_info": UNIVERSAL_CHECKPOINT_INFO}
        written: list[WrittenFile] = []

        def write_own_part() -> None:
            written.extend(_write_states(engine, partial, client_state))

        own_error = attempted(write_own_part)
        error = world.first_error(own_error)
        all_written = world.gather(written)
        if error is None:
            manifest = _manifest(engine, step, state, all_written)
            finish = attempted(lambda: _put_in_place(partial, target, manifest)) if world.first else None
            error = world.said_by_first(finish)
    if error is None:
        return Saved(step, time.monotonic() - started, manifest.size)
    if world.first:
        shutil.rmtree(partial, ignore_errors=True)
    if not isinstance(error, OSError):
        raise error
    return Saved(step, time.monotonic() - started, 0, f"{error.strerror or error} ({target.name})")


def newest_valid(folder: RunFolder, world: World, report: Callable[[str], None]) -> CheckpointInfo | None:
    """The newest checkpoint that verifies, or None where the run never saved one; a collective.

    Each rank reads and hashes its own part. What does not verify is quarantined, and `report` is told why on rank 0.
    Left-overs of interrupted saves are removed.

    Raises:
        CheckpointError: there were checkpoints and none verifies, or the newest is of another world size.
    """
    steps, quarantined = world.said_by_first(list_checkpoints(folder) if world.first else ([], 0))
    for step in steps:
        path = folder.checkpoint(step)
        manifest, reason = verified(path, world)
        if manifest is not None:
            _require_same_world_size(manifest, world.size)
            return CheckpointInfo(step, path, manifest)
        if world.first:
            kept_as = quarantine(path)
            report(f"checkpoint of step {step} is not used: {reason}; kept as {kept_as.name}")
    if steps or quarantined:
        raise CheckpointError(
            f"none of the {len(steps) + quarantined} checkpoints in {folder.checkpoints} verifies, and a run does not "
            "go back to step 0 in silence; remove the *.bad folders there to start again"
        )
    return None


def at_step(folder: RunFolder, world: World, step: int) -> CheckpointInfo:
    """The checkpoint of one step, verified; a collective.

    Raises:
        CheckpointError: there is none, it does not verify, or it is of another world size.
    """
    path = folder.checkpoint(step)
    manifest, reason = verified(path, world)
    if manifest is None:
        steps, _ = world.said_by_first(list_checkpoints(folder) if world.first else ([], 0))
        known = ", ".join(str(other) for other in steps) or "none"
        raise CheckpointError(f"the checkpoint of step {step} cannot be used: {reason}; steps with one: {known}")
    _require_same_world_size(manifest, world.size)
    return CheckpointInfo(step, path, manifest)


def load(engine: Engine, info: CheckpointInfo) -> dict[str, Any]:
    """Put weights, optimizer and random states of a verified checkpoint into `engine`; returns `save`'s state."""
    allowed = frozenset(info.path / entry.name for entry in info.manifest.files)
    client_state = engine.load_states(info.path / STATES, allowed)
    random_state.read(info.path / STATES, engine.rank)
    state: dict[str, Any] = client_state["muster"]
    return state


def prune(folder: RunFolder, world: World, keep: int, best: int | None = None) -> list[int]:
    """Remove all but the newest `keep` checkpoints; rank 0 acts, on others nothing happens.

    The newest whose files are all there with their length is never removed, nor that of the step `best`. Returns the
    steps removed.
    """
    if not world.first:
        return []
    steps, _ = list_checkpoints(folder)
    whole = next((step for step in steps if checked_manifest(folder.checkpoint(step))[0] is not None), None)
    removed = [step for step in steps[max(keep, 1) :] if step not in (whole, best)]
    for step in removed:
        with contextlib.suppress(OSError):
            # A folder that is half removed must not look like a checkpoint.
            hidden = folder.checkpoint(step).with_name(f".step-{step:08d}.partial")
            folder.checkpoint(step).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
    return removed


def _make_folders(partial: Path) -> None:
    if partial.exists():
        shutil.rmtree(partial)
    partial.parent.mkdir(exist_ok=True, mode=0o700)
    (partial / STATES).mkdir(parents=True)


def _write_states(engine: Engine, partial: Path, client_state: dict[str, Any]) -> list[WrittenFile]:
    """Write this rank's files; names relative to the checkpoint."""
    files = engine.save_states(partial / STATES, client_state)
    files.append(random_state.write(partial / STATES, engine.rank))
    return [WrittenFile(f"{STATES}/{file.name}", file.size, file.sha256) for file in files]


def _manifest(engine: Engine, step: int, state: dict[str, Any], written: list[list[WrittenFile]]) -> Manifest:
    run_id = str(state.get("run_id", ""))
    return Manifest(
        step=step,
        world_size=engine.world_size,
        zero_stage=engine.zero_stage,
        run_id=run_id,
        config_hash=run_id.rpartition("-")[2],
        attempt=int(state.get("attempt", 0)),
        time=time.time(),
        torch_version=str(torch.__version__),
        deepspeed_version=importlib.metadata.version("deepspeed"),
        universal_checkpoint_info=UNIVERSAL_CHECKPOINT_INFO,
        files=entries(written),
    )


def _put_in_place(partial: Path, target: Path, manifest: Manifest) -> None:
    """Make the folder durable, write its manifest, rename it."""
    flush_folder(partial / STATES)
    write_manifest(partial, manifest)
    flush_folder(partial)
    partial.rename(target)
    flush_folder(target.parent)


def _require_same_world_size(manifest: Manifest, world_size: int) -> None:
    if manifest.world_size != world_size:
        raise CheckpointError(
            f"the checkpoint of step {manifest.step} was written by {manifest.world_size} ranks and this attempt has "
            f"{world_size}; it is not yet converted between world sizes: start {manifest.world_size} ranks"
        )
