"""Checkpoints: written beside, verified by their manifest, renamed into place; only what verifies is read.

A folder named `step-…` is whole or it is quarantined as `step-….bad`. Ranks agree by collectives; rank 0 alone lists,
renames and removes folders.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conf.layout import RunFolder
from conf.outcome import Cause
from train import universal
from train.checkpoint import random_state, stock
from train.checkpoint.conversion import converted
from train.checkpoint.engine_files import Take, WrittenNow
from train.checkpoint.flight import Saved
from train.checkpoint.jobs import STATES, Discard, Publish, Retention
from train.checkpoint.manifest import Manifest, entries
from train.checkpoint.stock import list_checkpoints, quarantine, remove_leftovers, verified
from train.checkpoint.storage import WrittenFile
from train.distributed import World, attempted
from train.engine import Engine
from train.metrics.journal import Journal


class CheckpointError(Exception):
    """The run cannot go on from its checkpoints; the words say why and what to do."""

    cause = Cause.checkpoint


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint that verified."""

    step: int
    path: Path
    manifest: Manifest


def save(
    engine: Engine,
    world: World,
    folder: RunFolder,
    step: int,
    state: dict[str, Any],
    retention: Retention | None = None,
) -> Saved:
    """Write `checkpoints/step-…` and return once it is there; a collective.

    `state` comes back from `load` and is JSON-like and small. A full disk, or another error of the file system, removes
    what was written and comes back as `Saved.error`; older checkpoints stay. A step that is already saved is left as it
    is.

    Raises:
        RuntimeError: a rank failed for another reason than its file system.
    """
    started = time.monotonic()
    target = folder.checkpoint(step)
    if is_saved(world, target):
        return Saved(step, 0.0, 0)
    size = 0
    partial, error = new_partial(world, target)
    if error is None:
        files = WrittenNow(partial)
        error = hand_over(engine, world, partial, state, files.take)
        written = world.gather(files.files)
        if error is None:
            publish = Publish(partial, folder, manifest_of(engine, step, state, written), retention)
            error = world.said_by_first(attempted(publish.run) if world.first else None)
            size = publish.manifest.size
    if error is not None:
        return given_up(world, partial, step, error, started)
    seconds = time.monotonic() - started
    return Saved(step, seconds, size, stall=seconds)


def is_saved(world: World, target: Path) -> bool:
    """Whether rank 0 sees the checkpoint; a collective.

    Others do not look: NFS would tell them for a minute that it is missing, also when it is there.
    """
    return world.said_by_first(world.first and target.exists())


def new_partial(world: World, target: Path) -> tuple[Path, Exception | None]:
    """The empty folder in which a checkpoint is written, made by rank 0, or why it cannot be made; a collective."""
    partial = target.with_name(f".{target.name}.partial")

    def make() -> None:
        Discard(partial).run()
        partial.parent.mkdir(exist_ok=True, mode=0o700)
        (partial / STATES).mkdir(parents=True)

    return partial, world.said_by_first(attempted(make) if world.first else None)


def hand_over(engine: Engine, world: World, partial: Path, state: dict[str, Any], take: Take) -> Exception | None:
    """Give this rank's share of a checkpoint to `take`; the error of a rank that has one; a collective."""

    def hand() -> None:
        client_state = {"muster": state, "universal_checkpoint_info": universal.INFO}
        engine.save_states(partial / STATES, client_state, take)
        take(random_state.capture(), random_state.path_of(partial / STATES, engine.rank))

    return world.first_error(attempted(hand))


def given_up(world: World, partial: Path, step: int, error: Exception, started: float) -> Saved:
    """Remove what was written of a checkpoint, and say why there is none.

    Raises:
        RuntimeError: the error is no file system's.
    """
    if world.first:
        Discard(partial).run()
    if not isinstance(error, OSError):
        raise error
    seconds = time.monotonic() - started
    return Saved(step, seconds, 0, error.strerror or str(error), seconds)


def manifest_of(engine: Engine, step: int, state: dict[str, Any], written: list[list[WrittenFile]]) -> Manifest:
    """The manifest of what the ranks have written, in order of ranks."""
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
        universal_checkpoint_info=universal.INFO,
        files=entries(written),
    )


def newest_valid(folder: RunFolder, world: World, report: Callable[[str], None]) -> CheckpointInfo | None:
    """The newest checkpoint that verifies, or None where the run never saved one; a collective.

    Each rank reads and hashes its own part. What does not verify is quarantined, and `report` is told why on rank 0.
    Left-overs of interrupted saves are removed, so nothing may be in flight.

    Raises:
        CheckpointError: there were checkpoints and none verifies.
        OSError: a rank's file system failed; nothing is put aside for that.
    """
    if world.first:
        remove_leftovers(folder)
    steps, quarantined = world.said_by_first(list_checkpoints(folder) if world.first else ([], 0))
    info = _first_that_verifies(folder, world, steps, report)
    if info is None and (steps or quarantined):
        raise CheckpointError(
            f"none of the {len(steps) + quarantined} checkpoints in {folder.checkpoints} verifies, and a run does not "
            "go back to step 0 in silence; remove the *.bad folders there to start again"
        )
    return info


def newest_of(
    folder: RunFolder, world: World, report: Callable[[str], None], accepted: Callable[[int], bool]
) -> CheckpointInfo | None:
    """The newest checkpoint of an `accepted` step that verifies, where there is one; otherwise as `newest_valid`."""
    steps, _ = world.said_by_first(list_checkpoints(folder) if world.first else ([], 0))
    return _first_that_verifies(folder, world, [step for step in steps if accepted(step)], report)


def _first_that_verifies(
    folder: RunFolder, world: World, steps: list[int], report: Callable[[str], None]
) -> CheckpointInfo | None:
    for step in steps:
        path = folder.checkpoint(step)
        manifest, reason = verified(path, world)
        if manifest is not None:
            return CheckpointInfo(step, path, manifest)
        if world.first:
            kept_as = quarantine(path)
            report(f"checkpoint of step {step} is not used: {reason}; kept as {kept_as.name}")
    return None


def at_step(folder: RunFolder, world: World, step: int) -> CheckpointInfo:
    """The checkpoint of one step, verified; a collective.

    Raises:
        CheckpointError: there is none, or it does not verify.
        OSError: a rank's file system failed.
    """
    path = folder.checkpoint(step)
    manifest, reason = verified(path, world)
    if manifest is None:
        steps, _ = world.said_by_first(list_checkpoints(folder) if world.first else ([], 0))
        known = ", ".join(str(other) for other in steps) or "none"
        raise CheckpointError(f"the checkpoint of step {step} cannot be used: {reason}; steps with one: {known}")
    return CheckpointInfo(step, path, manifest)


def load(engine: Engine, info: CheckpointInfo, world: World, journal: Journal) -> dict[str, Any]:
    """Put weights, optimizer and random states of a verified checkpoint into `engine`; returns `save`'s state.

    States that another number of ranks saved are converted first, and `journal` is told; a collective.

    Raises:
        CheckpointError: it is of a ZeRO stage whose states are laid out in another way.
        OSError: there is no room for the conversion, or another error of the file system.
    """
    _require_same_layout(info.manifest, engine.zero_stage)
    saved, path = info.manifest.world_size, info.path
    readable = frozenset(path / entry.name for entry in info.manifest.files)
    if saved == world.size or engine.zero_stage == 0:
        client_state = engine.load_states(path / STATES, readable)
    else:
        client_state = _load_converted(engine, info, world, journal)
    if world.rank < saved:
        random_state.read(path / STATES, world.rank, readable)
    else:
        random_state.seed(f"{info.manifest.run_id} step {info.step} rank {world.rank}")
    state: dict[str, Any] = client_state["muster"]
    return state


def prune(folder: RunFolder, world: World, keep: int, best: int | None = None) -> list[int]:
    """`stock.prune` by rank 0; on others nothing happens."""
    return stock.prune(folder, keep, best) if world.first else []


def _load_converted(engine: Engine, info: CheckpointInfo, world: World, journal: Journal) -> dict[str, Any]:
    """Load the states through DeepSpeed's universal checkpoint, which is made where there is none; a collective."""
    target = RunFolder(info.path.parent.parent).universal(info.step)
    found = converted(
        info.path,
        target,
        info.manifest,
        world,
        lambda done, total: journal.phase("convert", done, total, "parts"),
    )
    how = f"converted in {found.seconds:.1f} s" if found.seconds else "converted by an earlier attempt"
    text = f"step {info.step} was saved by {info.manifest.world_size} ranks: {how} for {world.size}"
    size = found.manifest.size
    journal.event("converted", text=text, step=info.step, seconds=round(found.seconds, 3), bytes=size)
    if world.first:
        print(text, flush=True)
    journal.phase("load")
    return engine.load_universal(found.path / STATES, found.files)


def _require_same_layout(manifest: Manifest, zero_stage: int) -> None:
    """Stages 1 and 2 save alike; between others nothing converts."""
    if manifest.zero_stage != zero_stage and {manifest.zero_stage, zero_stage} != {1, 2}:
        raise CheckpointError(
            f"the checkpoint of step {manifest.step} is of ZeRO-{manifest.zero_stage} and this attempt trains with "
            f"ZeRO-{zero_stage}; states are not converted between them: parallel.zero_stage={manifest.zero_stage}"
        )
