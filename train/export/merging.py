"""An adapter merged into the weights of its base model, in fp32, and the proof that nothing was lost on the way.

Rounding merged weights to 16 bits moves the logits of some models more than a young adapter does, so that a comparison
with the engine in 16 bits alone would prove little. Three steps prove the merge instead, after the adapter itself was
compared with the engine:

1. In fp32 base model and adapter beside each other compute the same as the merged weights.
2. The files hold the merged weights, rounded once to the run's precision, bit for bit, each of them and nothing else.
3. Their logits differ from the engine's by no more than a sound model's can; the difference is reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from train.export.proof import TOKENS, Comparison, failed, logits_of
from train.methods.adapter import merged

EXACT = 1e-5
"""Largest difference of the merged model in fp32, as a share of the largest logit: what another order of sums makes."""

OF_EFFECT = 2e-2
"""Or as a share of what the adapter changes, where that is more: a lost or doubled adapter differs by all of it.

Models that magnify rounding need it (3e-5 of the largest logit with 32 layers of badly scaled random weights).
"""

SANE = 1.0
"""Largest difference between the rounded merged model and the engine, as a share of the largest logit.

16 bits are another arithmetic: the same random weights differ by 1.6e-2 to 2.7e-1 between them and fp32.
"""


@dataclass(frozen=True)
class Merge:
    """A merged model, rounded, and how its fp32 weights compare with base model and adapter beside each other."""

    model: Any
    found: Comparison


def merged_in_fp32(adapted: Any, device: torch.device) -> Merge:
    """Merge in fp32, in place, and round each tensor once to the precision that it has in `adapted`.

    Args:
        adapted: the adapter on its base model, whole and not quantised; it is used up.

    Raises:
        AdapterError: the method does not merge.
    """
    precision = _precision(adapted.get_base_model())
    dtype = adapted.dtype
    adapted.float().to(device).eval()
    config = adapted.get_base_model().config
    beside = logits_of(adapted, config, device)
    with adapted.disable_adapter():
        effect = float((logits_of(adapted, config, device) - beside).abs().max())
    plain = merged(adapted)
    found = _judged(logits_of(plain.eval(), config, device), beside, effect)
    for name, tensor in itertools.chain(
        plain.named_parameters(remove_duplicate=False), plain.named_buffers(remove_duplicate=False)
    ):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(precision.get(name, dtype))
    return Merge(plain, found)


def _precision(model: Any) -> dict[str, torch.dtype]:
    """The types of a model's parameters and buffers by their names without an adapter."""
    named = itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return {name.replace(".base_layer.", "."): tensor.dtype for name, tensor in named}


def _judged(merged_logits: Tensor, beside: Tensor, effect: float) -> Comparison:
    """Whether the merged model computes what base model and adapter do, which differ from the base by `effect`."""
    difference = float((merged_logits - beside).abs().max())
    tolerance = max(EXACT * max(1.0, float(beside.abs().max())), OF_EFFECT * effect)
    words = f"in fp32 logits of {TOKENS} tokens differ by {difference:.3g} from the adapter's, which moves them by"
    words = f"{words} {effect:.3g}"
    if difference <= tolerance:
        return Comparison(True, difference, tolerance, words)
    return Comparison(False, difference, tolerance, f"{words}: more than {tolerance:.3g}")


def differing(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """What is not the same, bit for bit, in two models or adapters; None where all is."""
    wrong = sorted(own.keys() ^ other.keys())
    wrong += [name for name in own if name in other and not _equal(own[name], other[name])]
    return f"read back otherwise than written: {', '.join(wrong[:4])}" if wrong else None


def _equal(own: Tensor, other: Tensor) -> bool:
    # What transformers and PEFT keep in fp32 is read into a wider type than it was written in.
    return own.shape == other.shape and torch.equal(own.to(other.device, other.dtype), other)


def together(merge: Comparison, files: Comparison) -> Comparison:
    """One judgement from the merge in fp32 and the files."""
    if not merge.verified:
        return Comparison(False, merge.max_abs_diff, merge.tolerance, f"merged: {merge.reason}")
    if not files.verified:
        return failed(f"merged: {merge.reason}; {files.reason}")
    reason = f"merged: {merge.reason}; the files hold these weights rounded; {files.reason}"
    return Comparison(True, merge.max_abs_diff, merge.tolerance, reason)
