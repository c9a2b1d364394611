"""A trained adapter as files: alone, in PEFT's format, and merged into the model's weights as a plain model.

Both are read back and proven: the adapter against the engine, the merged model as `merging` says. The adapter comes
first and is what a run always hands back; the merged model follows where the method merges and rank 0 can hold it
beside the run.

Over a quantised base the adapter is checked on that base, and merged into its dequantised weights: those are what the
adapter has learned to correct, not the original ones.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conf.adapters import has_virtual_tokens
from conf.files import write_atomically
from conf.layout import RunFolder
from conf.record import Layout, Plan
from conf.schema import ModelInit, Quantization, TaskName
from train.checkpoint.storage import WrittenFile
from train.data.prepared import read_prepared
from train.distributed import World, attempted
from train.engine import Engine
from train.export import proof
from train.export.export import ExportResult, Record, dtype_name, put_in_place, write_surroundings, write_tokenizer
from train.export.merging import SANE, differing, merged_in_fp32, together
from train.export.shards import INDEX_NAME, Part, index, write_safetensors, write_whole
from train.methods.adapter import (
    WEIGHTS_NAME,
    AdapterError,
    adapter_weights,
    added_tensors,
    base_model,
    load_adapter,
    write_adapter_config,
)
from train.model.model import load_model
from train.model.parameters import parameter_count

Report = Callable[[str], None]

EIGHT_BIT_TOLERANCE = 8e-2
"""Largest difference of an adapter over 8-bit weights in 16 bits, as a share of the largest logit.

LLM.int8() rounds activations to 8 bits: rounding the input of one layer once to bf16 moves the logits of a random model
of 1.3 million parameters by 0.06 to 0.07 of the largest. In fp32 the usual tolerance holds, with a difference of 0.
What the adapter holds is proven by its weights, which are compared bit for bit.
"""


@dataclass(frozen=True)
class _Source:
    """What an adapter is exported from."""

    engine: Engine
    world: World
    plan: Plan
    layout: Layout
    folder: RunFolder
    step: int

    def base(self) -> Any:
        """The base model once more, whole in this rank."""
        prepared = read_prepared(self.folder)
        return load_model(self.plan, replace(self.layout, deepspeed={}), self.folder, prepared).eval()


def export_adapter(
    engine: Engine, world: World, plan: Plan, layout: Layout, folder: RunFolder, step: int, report: Report
) -> ExportResult:
    """Write and verify `adapter/` and, where `method.merge` and it can be, `export/`; a collective.

    The result is the merged model's where there is one, else the adapter's; it is verified if all that was written is.

    Raises:
        RuntimeError: a rank failed for another reason than its file system.
    """
    source = _Source(engine, world, plan, layout, folder, step)
    started = time.monotonic()
    report("writing the adapter")
    expected = proof.engine_logits(engine)
    whole = gathered_adapter(engine, world)
    outcome: tuple[ExportResult | None, Exception | None] = (None, None)
    if world.first:
        made: list[ExportResult] = []
        error = attempted(lambda: made.append(_exported(source, whole, expected, report)))
        outcome = (made[0] if made else None, error)
    result, error = world.said_by_first(outcome)
    if result is None:
        if not isinstance(error, OSError):
            raise error or AdapterError("nothing was exported")
        reason = f"not written: {error.strerror or error}"
        result = ExportResult(False, math.nan, 0, 0.0, reason, None)
    return replace(result, seconds=time.monotonic() - started)


def gathered_adapter(engine: Engine, world: World) -> dict[str, Tensor]:
    """The adapter's weights by the names of PEFT's files, on rank 0; a collective."""
    tensors: dict[str, Tensor] = {}
    added = list(added_tensors(engine.module))
    if any("prompt_encoder" in name for name, _ in added):
        with engine.gathered(tensor for _, tensor in added if isinstance(tensor, nn.Parameter)):
            return adapter_weights(engine.module, dict(added)) if world.first else {}
    for name, tensor in added:
        with engine.gathered([tensor] if isinstance(tensor, nn.Parameter) else []):
            if world.first:
                tensors[name] = tensor.detach().to("cpu", copy=True)
    return adapter_weights(engine.module, tensors) if world.first else {}


def _exported(source: _Source, weights: dict[str, Tensor], expected: Tensor, report: Report) -> ExportResult:
    """Rank 0's part: the adapter, its check, the merged model."""
    folder, model = source.folder, source.engine.module
    written = _write_adapter(source, weights)
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    need = 2 * parameter_count(base_model(model).parameters()) * model.dtype.itemsize
    free = proof.free_bytes(source.world.device)
    if need > free:
        reason = f"the base model does not fit beside the run ({need / 1e9:.1f} GB wanted, {free / 1e9:.1f} free)"
        put_in_place(folder.adapter_partial, folder.adapter, _record(source, [written], None, reason))
        return ExportResult(False, math.nan, size, 0.0, f"adapter alone, not compared: {reason}", folder.adapter)
    report("reading the adapter back")
    try:
        found, adapted = _read_back(source, weights, expected)
    except Exception as error:
        # Whatever stops it, the adapter is not proven; the run itself has nothing to do with it.
        found, adapted = proof.failed(f"adapter on its base model: {type(error).__name__}: {error}"), None
    target = folder.adapter if found.verified else folder.adapter_unverified
    put_in_place(folder.adapter_partial, target, _record(source, [written], found, found.reason))
    alone = ExportResult(found.verified, found.max_abs_diff, size, 0.0, found.reason, target)
    if not found.verified or not source.plan.config.method.merge:
        return alone
    why = _no_merge(source)
    if why is not None:
        return replace(alone, reason=f"{alone.reason}; not merged: {why}")
    report("merging the adapter into the weights")
    try:
        return _export_merged(source, adapted, expected, alone)
    except Exception as error:
        # The adapter alone is there, and proven.
        shutil.rmtree(folder.export_partial, ignore_errors=True)
        why = str(error) if isinstance(error, AdapterError) else f"{type(error).__name__}: {error}"
        return replace(alone, reason=f"{alone.reason}; not merged: {why}")


def _read_back(source: _Source, weights: dict[str, Tensor], expected: Tensor) -> tuple[proof.Comparison, Any]:
    """How the adapter's files on the base model compare with the engine, and that model, to be merged.

    Of a quantised base there is none: another one is merged, and this one lives no longer than the comparison.
    """
    dtype, quantization = source.engine.module.dtype, source.plan.config.method.quantization
    adapted = load_adapter(source.base(), source.folder.adapter_partial)
    tolerance = EIGHT_BIT_TOLERANCE if quantization is Quantization.int8 and dtype != torch.float32 else None
    logits = _logits(adapted, source.world.device)
    found = proof.judged(logits, expected, dtype, "adapter on its base model", tolerance)
    wrong = differing(weights, adapter_weights(adapted, dict(added_tensors(adapted))))
    if wrong is not None:
        found = proof.failed(f"adapter on its base model: {wrong}")
    return found, adapted if quantization is Quantization.none else None


def _write_adapter(source: _Source, weights: dict[str, Tensor]) -> WrittenFile:
    """`adapter_model.safetensors`, `adapter_config.json` and the tokenizer in a new folder."""
    partial = source.folder.adapter_partial
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(partial)
    partial.mkdir(mode=source.folder.path.stat().st_mode & 0o777)
    base, revision = _base_source(source.plan, source.folder)
    write_adapter_config(source.engine.module, partial, base, revision)
    write_tokenizer(source.folder, partial)
    if source.plan.config.task.name is TaskName.seq_cls:
        _write_labels(source.engine.module, partial)
    return write_safetensors(partial / WEIGHTS_NAME, weights)


def _write_labels(model: Any, folder: Path) -> None:
    """The model's configuration beside the adapter: its base knows neither the labels nor their number."""
    config = copy.deepcopy(base_model(model).config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)


def _base_source(plan: Plan, folder: RunFolder) -> tuple[str, str | None]:
    """Folder or hub name of the model that is trained, and its commit where it has one."""
    config = plan.config.model
    if config.init is ModelInit.random:
        return str(folder.model.resolve()), None
    return config.model_name_or_path, config.revision


def _no_merge(source: _Source) -> str | None:
    """Why the adapter does not go into the weights; None where it does."""
    method = source.plan.config.method
    if has_virtual_tokens(method.peft):
        return "virtual tokens are no part of the weights"
    if method.quantization is not Quantization.none and source.plan.model_type == "gpt2":
        return "bitsandbytes keeps GPT-2's layers transposed"
    return None


def _export_merged(source: _Source, adapted: Any, expected: Tensor, alone: ExportResult) -> ExportResult:
    """`export/`: the adapter in the weights of its base model, which is dequantised for it where it is quantised."""
    folder = source.folder
    if adapted is None:
        gc.collect()  # of the base that was read back
        adapted = load_adapter(source.base().dequantize(), folder.adapter)
    merge = merged_in_fp32(adapted, source.world.device)
    plain = merge.model
    write_surroundings(plain, folder)
    largest = int(source.plan.config.checkpoint.max_shard_size_gb * 1e9)
    parts = write_whole(plain, folder.export_partial, largest)
    if len(parts) > 1:
        write_atomically(folder.export_partial / INDEX_NAME, index(parts))

    def problem_of(reloaded: Any) -> str | None:
        return differing(plain.state_dict(), reloaded.state_dict())

    files = proof.compare_whole(plain, folder.export_partial, expected, source.world.device, SANE, problem_of)
    found = together(merge.found, files)
    target = folder.export if found.verified else folder.export_unverified
    put_in_place(folder.export_partial, target, _record(source, [part.file for part in parts], found, found.reason))
    reason = f"{alone.reason}; {found.reason}"
    verified = alone.verified and found.verified
    return ExportResult(verified, max(alone.max_abs_diff, found.max_abs_diff), _size(parts), 0.0, reason, target)


def _record(source: _Source, files: list[WrittenFile], found: proof.Comparison | None, checked: str) -> Record:
    return Record(
        run_id=source.plan.run_id,
        step=source.step,
        verified=found is not None and found.verified,
        max_abs_diff=found.max_abs_diff if found else None,
        tolerance=found.tolerance if found else 0.0,
        checked=checked,
        dtype=dtype_name(source.engine.module),
        files=files,
    )


def _logits(model: Any, device: torch.device) -> Tensor:
    return proof.logits_of(model.to(device).eval(), model.config, device)


def _size(parts: list[Part]) -> int:
    return sum(size for part in parts for size in part.tensors.values())
