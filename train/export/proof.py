"""Whether an export is the model that was trained: the logits of 64 tokens, from the engine and from the files."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.distributed import World
from train.engine import Engine, sharded_for_forward
from train.host_memory import free_host_bytes
from train.model.model import auto_class, placement, task_of

TOKENS = 64
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Largest difference, as a share of the largest logit. The same arithmetic on the same device gives 0; a GPU may take
another kernel for weights that lie elsewhere."""


@dataclass(frozen=True)
class Comparison:
    """`max_abs_diff` and `tolerance` in logits; `reason` in words."""

    verified: bool
    max_abs_diff: float
    tolerance: float
    reason: str


def engine_logits(engine: Engine) -> Tensor:
    """Logits (tokens × vocabulary, fp32, on the CPU) of the trained weights; a collective."""
    was_training = engine.module.training
    engine.eval()
    logits = logits_of(engine, engine.module.config, engine.device)
    if was_training:
        engine.train()
    return logits


def logits_of(model: Callable[..., Any], config: Any, device: torch.device) -> Tensor:
    """Logits as `engine_logits` has them, of any model in evaluation mode with this configuration."""
    with torch.no_grad():
        return _plain(model(**_inputs(config, device)).logits)


def compare(model: Any, folder: Path, expected: Tensor, weight_bytes: int, world: World) -> Comparison:
    """Load the files in `folder` as anybody would and compare; a collective with one result for all ranks.

    Where twice the weights fit free memory rank 0 loads them plainly; else all ranks load them sharded.
    """
    free = free_bytes(world.device) if world.first else 0
    fits = world.said_by_first(2 * weight_bytes <= free)
    if not fits:
        reloaded = _sharded_logits(model, folder, world)
        return world.said_by_first(judged(reloaded, expected, model.dtype, f"reloaded sharded on {world.size} ranks"))
    outcome = None
    if world.first:
        outcome = compare_whole(model, folder, expected, world.device)
    result: Comparison = world.said_by_first(outcome)  # type: ignore[assignment]
    return result


def compare_whole(
    model: Any,
    folder: Path,
    expected: Tensor,
    device: torch.device,
    tolerance: float | None = None,
    problem_of: Callable[[Any], str | None] = lambda reloaded: None,
) -> Comparison:
    """As `compare`, on this rank alone.

    Args:
        tolerance: where given, the share of the largest logit instead.
        problem_of: what else is wrong with the reloaded model.
    """
    try:
        problem, reloaded = _plain_logits(model, folder, device, problem_of)
        words = "reloaded whole on rank 0"
        return judged(reloaded, expected, model.dtype, words, tolerance) if problem is None else failed(problem)
    except Exception as error:
        # Whatever stops a reload, the export is not proven; the run itself has nothing to do with it.
        return failed(f"reloading failed: {type(error).__name__}: {error}")


def free_bytes(device: torch.device) -> int:
    """Memory that can be taken without harm: the GPU's, or the host's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch keeps for later is free as well
        return int(torch.cuda.mem_get_info(device)[0])
    return free_host_bytes()


def _inputs(config: Any, device: torch.device) -> dict[str, Tensor]:
    """The same 64 token ids every time; a decoder behind an encoder reads them as well."""
    size = int(config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(64)
    ids = torch.randint(0, size, (1, TOKENS), generator=generator).to(device)
    return {"input_ids": ids, "decoder_input_ids": ids} if config.is_encoder_decoder else {"input_ids": ids}


def _plain(logits: Tensor) -> Tensor:
    return logits.detach()[0].float().cpu()


def _plain_logits(
    model: Any, folder: Path, device: torch.device, problem_of: Callable[[Any], str | None]
) -> tuple[str | None, Tensor]:
    """Logits of the model loaded whole, and what transformers or `problem_of` found wrong with the files."""
    reloaded, found = _from_pretrained(model, folder, output_loading_info=True, **placement(device))
    wrong = {kind: sorted(map(str, names)) for kind, names in found.items() if kind in _WRONG and names}
    problem: str | None = "; ".join(
        f"{kind.replace('_', ' ')}: {', '.join(names[:4])}" for kind, names in wrong.items()
    )
    reloaded.to(device).eval()
    problem = problem or problem_of(reloaded)
    logits = logits_of(reloaded, reloaded.config, device)
    del reloaded
    gc.collect()
    return problem or None, logits


_WRONG = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")


def _sharded_logits(model: Any, folder: Path, world: World) -> Tensor:
    """Logits of the model loaded under ZeRO-3 over all ranks; a collective."""
    from transformers.integrations import HfDeepSpeedConfig

    configuration = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": model.dtype == torch.bfloat16},
        "fp16": {"enabled": model.dtype == torch.float16},
        "zero_optimization": {"stage": 3},
    }
    keeps_sharding = HfDeepSpeedConfig(configuration)
    reloaded = _from_pretrained(model, folder)
    del keeps_sharding
    with sharded_for_forward(reloaded, configuration) as forward, torch.no_grad():
        return _plain(forward(**_inputs(model.config, world.device)).logits)


def _from_pretrained(model: Any, folder: Path, **arguments: Any) -> Any:
    # A model whose code came with it is loaded by its own class: its folder alone would not do.
    loader = type(model) if model.is_remote_code() else auto_class(task_of(model))
    implementation = model.config._attn_implementation
    return loader.from_pretrained(
        folder, dtype=model.dtype, attn_implementation=implementation, local_files_only=True, **arguments
    )


def judged(
    reloaded: Tensor, expected: Tensor, dtype: torch.dtype, words: str, tolerance: float | None = None
) -> Comparison:
    """Whether logits are close enough, in words that begin with `words`."""
    if reloaded.shape != expected.shape:
        return failed(f"the reloaded model has logits of shape {tuple(reloaded.shape)}, not {tuple(expected.shape)}")
    difference = float((reloaded - expected).abs().max())
    share = TOLERANCE[dtype] if tolerance is None else tolerance
    tolerance = share * max(1.0, float(expected.abs().max()))
    if math.isfinite(difference) and difference <= tolerance:
        return Comparison(True, difference, tolerance, f"{words}: logits of {TOKENS} tokens differ by {difference:.3g}")
    words = f"{words}: logits of {TOKENS} tokens differ by {difference:.3g}, more than {tolerance:.3g}"
    return Comparison(False, difference, tolerance, words)


def failed(reason: str) -> Comparison:
    """Not verified, with nothing to compare."""
    return Comparison(False, float("nan"), 0.0, reason)
