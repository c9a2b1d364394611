"""The loss: cross entropy in fp32, summed over target tokens.

Logits exist once, in the model's own precision, and only for positions that have a target in some row; fp32 copies
exist for `CHUNK` positions at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from train.data.tensors import IGNORED, inputs_of, target_positions

CHUNK = 2048
"""Positions whose logits are in fp32 at once: 2048 × 128,000 tokens of vocabulary are 1 GiB."""


def loss_sum(model: Callable[..., Any], micro_batch: Mapping[str, Any], trims_logits: bool = True) -> Tensor:
    """Sum of the cross entropy over the micro batch's targets, fp32, without dimensions; 0 where there is none.

    Args:
        model: called with everything in `micro_batch` but `labels` and `target_positions`; returns an object with
            `logits`.
        micro_batch: `labels` (B, T) are already shifted: the label at t belongs to the logits at t.
            `target_positions`, where a loader has found them, saves waiting for the device.
        trims_logits: whether the model accepts `logits_to_keep` as a tensor of positions.
    """
    labels: Tensor = micro_batch["labels"]
    inputs = inputs_of(micro_batch)
    if trims_logits:
        found = micro_batch.get("target_positions")
        kept = inputs["logits_to_keep"] = target_positions(labels) if found is None else found
        labels = labels[:, kept]
    # Virtual tokens stand before the row: their logits have no labels.
    logits = model(**inputs).logits[:, -labels.shape[1] :]
    cross_entropy_sum = cast("Callable[[Tensor, Tensor], Tensor]", _CrossEntropySum.apply)
    return cross_entropy_sum(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


class _CrossEntropySum(torch.autograd.Function):
    """Sum of -log softmax(logits)[label], `CHUNK` rows at a time in both directions."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        normalisers = torch.empty(len(labels), dtype=torch.float32, device=logits.device)
        for start in range(0, len(labels), CHUNK):
            part = slice(start, start + CHUNK)
            scores, targets = logits[part].float(), labels[part]
            valid = targets != IGNORED
            normalisers[part] = torch.logsumexp(scores, dim=-1)
            chosen = scores.gather(1, targets.clamp(min=0)[:, None])[:, 0]
            total += torch.where(valid, normalisers[part] - chosen, 0.0).sum()
            del scores  # before the next chunk's are made
        ctx.save_for_backward(logits, labels, normalisers)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, labels, normalisers = ctx.saved_tensors
        result = torch.empty_like(logits)
        for start in range(0, len(labels), CHUNK):
            part = slice(start, start + CHUNK)
            targets = labels[part]
            scale = torch.where(targets != IGNORED, gradients[0].float(), 0.0)[:, None]
            # In place: each further copy would be as large as CHUNK rows in fp32.
            slope = logits[part].to(torch.float32, copy=True).sub_(normalisers[part, None]).exp_().mul_(scale)
            slope.scatter_add_(1, targets.clamp(min=0)[:, None], -scale)
            result[part] = slope  # rounds while it copies: `slope.to(…)` would be one more chunk
            del slope  # before the next chunk's is made
        return result, None
