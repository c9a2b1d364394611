"""Sampling whose outcome depends on the seed and the document alone, not on the batch or the rank it comes with.

The largest of scores with independent Gumbel noise is a sample of their softmax (Gumbel 1954; Maddison, Tarlow and
Minka, "A* Sampling", 2014). So `generate` searches greedily, over scores to which each row adds noise from a generator
of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class GumbelNoise:
    """Adds noise to the scores (rows, vocabulary) of each token; a row's depends on its seed and place alone."""

    def __init__(self, seeds: Sequence[int], device: torch.device):
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        result = scores.float()
        for row, generator in enumerate(self._generators):
            uniform = torch.rand(result.shape[1], generator=generator, device=result.device)
            # Within (0, 1): torch may draw 0, whose logarithm is not finite.
            result[row] -= torch.log(-torch.log(uniform.clamp(1e-30, 1 - 6e-8)))
        return result


def seed_of(seed: int, document: int) -> int:
    """A seed for one document of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed} {document}".encode()).digest()[:8], "little") >> 1


def processors(config: Any, seeds: Sequence[int], device: torch.device) -> list[Any]:
    """What a greedy search needs to be sampling by `config`, in transformers' order.

    What `config` leaves open is as `generate` has it: the 50 most likely tokens, temperature 1.
    """
    from transformers.generation import logits_process as library

    made: list[Any] = []
    if config.temperature not in (None, 1.0):
        made.append(library.TemperatureLogitsWarper(config.temperature))
    top_k = 50 if config.top_k is None else config.top_k
    if top_k:
        made.append(library.TopKLogitsWarper(top_k))
    if config.top_p not in (None, 1.0):
        made.append(library.TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        made.append(library.MinPLogitsWarper(config.min_p))
    if config.typical_p not in (None, 1.0):
        made.append(library.TypicalLogitsWarper(config.typical_p))
    return [*made, GumbelNoise(seeds, device)]


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""Keys of GenerationConfig that only sampling reads, and that `processors` knows."""
