"""Which documents belong to which optimizer step.

Pure: the order depends on the seed and the epoch alone, never on ranks, micro batch or packing. Steps count from 1. The
epochs form one endless stream of documents, each epoch shuffled without replacement, and a step takes the next
`global_batch` of it; so a short last batch is filled with the first documents of the next epoch.

Of several sources with weights each is an endless stream of its own, shuffled anew whenever it has run out. An epoch
has as many documents as all sources have together, takes each source's share from its stream, and shuffles them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mix:
    """How many documents each source has, and how many of it come in an epoch; both add up to the same."""

    sizes: tuple[int, ...]
    shares: tuple[int, ...]

    @property
    def documents(self) -> int:
        """Documents of an epoch."""
        return sum(self.sizes)


def mix_of(sizes: Sequence[int], weights: Sequence[float]) -> Mix:
    """The mix of sources by their weights; without weights each document comes once.

    Raises:
        ValueError: a source with a weight has no documents.
    """
    if not weights:
        return Mix(tuple(sizes), tuple(sizes))
    if not all(sizes):
        raise ValueError("a source has no documents")
    return Mix(tuple(sizes), tuple(largest_remainder(sum(sizes), weights)))


def largest_remainder(total: int, weights: Sequence[float], limits: Sequence[int] | None = None) -> list[int]:
    """`total` whole things in proportion to `weights`: each quota rounded down, what is left to the largest remainders.

    The earlier of two equal remainders comes first. Nobody gets more than its limit; what is over goes to the next.

    Raises:
        ValueError: the limits together are below `total`.
    """
    limits = [total] * len(weights) if limits is None else limits
    if sum(limits) < total:
        raise ValueError(f"{total} are more than the limits allow together, {sum(limits)}")
    whole = math.fsum(weights)
    quotas = [total * weight / whole for weight in weights]
    counts = [min(math.floor(quota), limit) for quota, limit in zip(quotas, limits, strict=True)]
    by_remainder = sorted(range(len(quotas)), key=lambda index: (math.floor(quotas[index]) - quotas[index], index))
    left = total - sum(counts)
    while left:
        for index in by_remainder:
            if left and counts[index] < limits[index]:
                counts[index] += 1
                left -= 1
    return counts


@lru_cache(maxsize=8)
def epoch_order(count: int, seed: int, epoch: int, stream: int = 0) -> LongArray:
    """Numbers 0 … count-1 as epoch `epoch` (from 0) goes through them, int64 (count,); `stream` tells sources apart.

    Sorting by the raw output of Philox, keyed by seed and epoch, gives the same order on every machine and NumPy
    version, which `Generator.permutation` does not promise.
    """
    key, counter = np.array([seed % (1 << 64), epoch], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    keys = np.random.Philox(key=key, counter=counter).random_raw(count)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


@lru_cache(maxsize=2)
def mixed_order(mix: Mix, seed: int, epoch: int) -> LongArray:
    """Documents, counted through all sources, as epoch `epoch` (from 0) goes through them, int64 (mix.documents,)."""
    order = epoch_order(mix.documents, seed, epoch)
    if mix.shares == mix.sizes:
        return order
    parts, first = [], 0
    for stream, (size, share) in enumerate(zip(mix.sizes, mix.shares, strict=True), 1):
        parts.append(first + _stretch(size, seed, stream, epoch * share, share))
        first += size
    mixed = np.concatenate(parts)[order]
    mixed.setflags(write=False)
    return mixed


def _stretch(size: int, seed: int, stream: int, position: int, count: int) -> LongArray:
    """`count` documents of a source's endless stream from `position` on."""
    parts = [np.zeros(0, np.int64)]
    end = position + count
    while position < end:
        passed, offset = divmod(position, size)
        parts.append(epoch_order(size, seed, passed, stream)[offset : offset + end - position])
        position += len(parts[-1])
    return np.concatenate(parts)


def documents_of_step(mix: Mix, global_batch: int, seed: int, step: int) -> LongArray:
    """Documents of one step (from 1), int64 (global_batch,).

    Raises:
        ValueError: there are no documents, or the step is below 1.
    """
    count = mix.documents
    if count < 1 or step < 1:
        raise ValueError(f"step {step} of {count} documents: both count from 1")
    position, end = (step - 1) * global_batch, step * global_batch
    parts = []
    while position < end:
        epoch, offset = divmod(position, count)
        part = mixed_order(mix, seed, epoch)[offset : offset + end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts)


def steps_per_epoch(count: int, global_batch: int) -> int:
    """Steps until every document was seen once."""
    return math.ceil(count / global_batch)


def total_steps(count: int, global_batch: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run: `max_steps` where given, else enough for `epochs` passes."""
    if max_steps is not None:
        return max_steps
    return max(1, math.ceil(round(epochs * count / global_batch, 6)))
