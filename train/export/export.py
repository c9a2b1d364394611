"""The trained model as a Hugging Face folder: written beside, read back and compared with the engine, then renamed.

Only an export whose reloaded logits equal the engine's becomes `export/`; another is kept as `export.unverified`.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from conf.files import write_atomically
from conf.layout import EXPORT_RECORD, RunFolder
from train.checkpoint.storage import WrittenFile, flush_folder
from train.data.prepared import read_prepared
from train.distributed import World, attempted
from train.engine import Engine
from train.export import proof
from train.export.shards import INDEX_NAME, Part, index, write_weights
from train.generation.generation import closing_tokens, question_of, stop_tokens


@dataclass(frozen=True)
class ExportResult:
    """How an export went. `max_abs_diff` is NaN where nothing could be compared; `path` None where nothing is left.

    `reason` says in words how it was verified, or why it is not; `bytes` of the weights, `seconds` in all.
    """

    verified: bool
    max_abs_diff: float
    bytes: int
    seconds: float
    reason: str
    path: Path | None


@dataclass(frozen=True)
class Record:
    """`export/muster.json`: where the model comes from and what was checked."""

    run_id: str
    step: int
    verified: bool
    max_abs_diff: float | None
    tolerance: float
    checked: str
    dtype: str
    files: list[WrittenFile]


def export(
    engine: Engine,
    world: World,
    folder: RunFolder,
    max_shard_bytes: int,
    run_id: str,
    step: int,
    report: Callable[[str], None] = lambda text: None,
    give_way: Callable[[], None] = lambda: None,
) -> ExportResult:
    """Write `export/` from the engine's weights and verify it; a collective. The tokenizer is the run's `model/`.

    `report` hears what is being done; `give_way` may raise, on all ranks, between writing and reading back. An error of
    the file system comes back as a result that is not verified.

    Raises:
        RuntimeError: a rank failed for another reason.
    """
    started = time.monotonic()
    partial = folder.export_partial
    model = engine.module
    report("writing weights")
    expected = proof.engine_logits(engine)
    parts, error = _written(engine, world, folder, max_shard_bytes, report)
    total = sum(size for part in parts for size in part.tensors.values())
    if error is not None:
        if world.first:
            shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError):
            raise error
        reason = f"not written: {error.strerror or error}"
        return ExportResult(False, float("nan"), total, time.monotonic() - started, reason, None)
    give_way()
    report("reading the export back")
    outcome = proof.compare(model, partial, expected, total, world)
    record = Record(
        run_id=run_id,
        step=step,
        verified=outcome.verified,
        max_abs_diff=outcome.max_abs_diff,
        tolerance=outcome.tolerance,
        checked=outcome.reason,
        dtype=dtype_name(model),
        files=[part.file for part in parts],
    )
    target = folder.export if outcome.verified else folder.export_unverified
    error = world.said_by_first(attempted(lambda: put_in_place(partial, target, record)) if world.first else None)
    if error is not None:
        raise error
    return ExportResult(
        outcome.verified, outcome.max_abs_diff, total, time.monotonic() - started, outcome.reason, target
    )


def _written(
    engine: Engine, world: World, folder: RunFolder, max_shard_bytes: int, report: Callable[[str], None]
) -> tuple[list[Part], Exception | None]:
    """All ranks' files in `export_partial`, and the first error of any rank."""
    partial = folder.export_partial
    error = world.said_by_first(attempted(lambda: write_surroundings(engine.module, folder)) if world.first else None)
    if error is not None:
        return [], error
    own: list[Part] = []
    failed = attempted(lambda: own.extend(write_weights(engine, partial, max_shard_bytes, report)))
    parts = [part for parts in world.gather(own) for part in parts]
    error = world.first_error(failed)
    if error is None and len(parts) > 1:
        write_index = attempted(lambda: write_atomically(partial / INDEX_NAME, index(parts))) if world.first else None
        error = world.said_by_first(write_index)
    return parts, error


def write_surroundings(model: Any, folder: RunFolder) -> None:
    """Make `export_partial` anew with config.json, generation_config.json and the tokenizer."""
    partial = folder.export_partial
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(partial)
    partial.mkdir(mode=folder.path.stat().st_mode & 0o777)
    config = copy.deepcopy(model.config)
    # As `save_pretrained` does; caching was only off for training.
    config.architectures = [type(model).__name__]
    config.dtype = dtype_name(model)
    if hasattr(config, "use_cache"):
        config.use_cache = True
    config.save_pretrained(partial)
    if model.can_generate():
        generation = copy.deepcopy(model.generation_config)
        generation.use_cache = True
        generation.eos_token_id = ends_of_answers(generation, folder)
        generation.save_pretrained(partial)
    write_tokenizer(folder, partial)


def ends_of_answers(generation: Any, folder: RunFolder) -> list[int] | int | None:
    """Tokens that end an answer: the model's own, the tokenizer's, and what the training data ends answers with.

    A chat template's end of a turn need not be the end token of the model or the tokenizer, and whoever loads the
    export would get answers that go on.
    """
    tokenizer = run_tokenizer(folder)
    if tokenizer is None:
        return generation.eos_token_id  # type: ignore[no-any-return]
    ends = set(stop_tokens(generation, tokenizer))
    documents = read_prepared(folder).open("train") if folder.data_json.exists() else None
    if documents is not None and len(documents):
        ends |= closing_tokens(question_of(documents[0]).expected, tokenizer)
    return sorted(ends)


def run_tokenizer(folder: RunFolder) -> Any:
    """The run's tokenizer, or None."""
    from transformers import AutoTokenizer

    if not any(folder.model.glob("tokenizer*")):
        return None
    return AutoTokenizer.from_pretrained(folder.model, local_files_only=True)


def write_tokenizer(folder: RunFolder, target: Path) -> None:
    """The run's tokenizer beside the weights in `target`; nothing where the run has none."""
    tokenizer = run_tokenizer(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(target)


def put_in_place(partial: Path, target: Path, record: Record) -> None:
    """Write the record last and rename; an older export is replaced only now."""
    write_atomically(partial / EXPORT_RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    flush_folder(partial)
    old = target.with_name(f".{target.name}.old")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(old)
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    partial.rename(target)
    flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def dtype_name(model: Any) -> str:
    """The precision of a model's weights, such as `bfloat16`."""
    dtype: torch.dtype = model.dtype
    return str(dtype).removeprefix("torch.")
