"""Which documents belong to which optimizer step.

Pure: the order depends on the seed and the epoch alone, never on ranks, micro batch or packing. Steps count from 1. The
epochs form one endless stream of documents, each epoch shuffled without replacement, and a step takes the next
`global_batch` of it; so a short last batch is filled with the first documents of the next epoch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from train.data.documents import LongArray


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> LongArray:
    """Numbers 0 … count-1 as epoch `epoch` (from 0) goes through them, int64 (count,).

    Sorting by the raw output of Philox, keyed by seed and epoch, gives the same order on every machine and NumPy
    version, which `Generator.permutation` does not promise.
    """
    keys = np.random.Philox(key=np.array([seed % (1 << 64), epoch], np.uint64)).random_raw(count)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


def documents_of_step(count: int, global_batch: int, seed: int, step: int) -> LongArray:
    """Documents of one step (from 1), int64 (global_batch,).

    Raises:
        ValueError: there are no documents, or the step is below 1.
    """
    if count < 1 or step < 1:
        raise ValueError(f"step {step} of {count} documents: both count from 1")
    position, end = (step - 1) * global_batch, step * global_batch
    parts = []
    while position < end:
        epoch, offset = divmod(position, count)
        part = epoch_order(count, seed, epoch)[offset : offset + end - position]
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
