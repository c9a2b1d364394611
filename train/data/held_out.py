"""Which training documents are held out for validation and test. Pure: the seed decides, never ranks or workers.

`random` takes the first of a seeded order; `stratified` does so in every class, in its share; `grouped` takes whole
groups, in a seeded order, while they fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.data.block import DataError
from train.data.order import LongArray, epoch_order, largest_remainder

HELD_OUT_EPOCH = (1 << 64) - 1
"""An epoch that no run reaches: its order decides which documents are held out."""


class StrataError(Exception):
    """Documents cannot be held out in classes; `first` are the first documents of the classes that are too small."""

    def __init__(self, first: list[int], rule: str):
        super().__init__(rule)
        self.first = first


@dataclass(frozen=True)
class HeldOut:
    """Places of documents (int64, ascending): those left for training, and those of validation and test."""

    train: LongArray
    validation: LongArray
    test: LongArray


def held_out_counts(validation_size: float, test_size: float, documents: int) -> tuple[int, int]:
    """Documents of validation and test: shares below 1, by largest remainder and at least one, or their numbers.

    Raises:
        DataError: none would be left to train on.
    """
    sizes = {"data.validation_size": validation_size, "data.test_size": test_size}
    shares = [size if 0 < size < 1 else 0.0 for size in sizes.values()]
    counts = largest_remainder(documents, [max(0.0, 1 - sum(shares)), *shares])[1:]
    counts = [round(size) if size >= 1 else count for size, count in zip(sizes.values(), counts, strict=True)]
    counts = [max(1, count) if size > 0 else 0 for size, count in zip(sizes.values(), counts, strict=True)]
    if sum(counts) >= documents:
        words = " and ".join(f"{key}={size:g}" for key, size in sizes.items() if size > 0)
        raise DataError(f"{words} leaves none of {documents} documents to train on")
    return counts[0], counts[1]


def hold_out_random(documents: int, counts: Sequence[int], seed: int) -> HeldOut:
    """The first documents of a seeded order."""
    owner = np.zeros(documents, np.int64)
    owner[epoch_order(documents, seed, HELD_OUT_EPOCH)[: sum(counts)]] = np.repeat([1, 2], counts)
    return _of_owner(owner)


def hold_out_stratified(classes: npt.NDArray[np.uint64], counts: Sequence[int], seed: int) -> HeldOut:
    """Documents of each class in its share, to within one; one of each is left for training.

    Raises:
        StrataError: a class has fewer documents than there are splits, or more are held out than classes can give.
    """
    names, first, inverse, sizes = np.unique(classes, return_index=True, return_inverse=True, return_counts=True)
    splits = 1 + sum(count > 0 for count in counts)
    small = np.flatnonzero(sizes < splits)
    if len(small):
        rows = sorted(int(first[index]) for index in small)
        raise StrataError(rows, f"has fewer rows than the {splits} splits it shall be in")
    left = sizes - 1
    if sum(counts) > left.sum():
        raise StrataError([], f"{sum(counts)} rows are more than {len(names)} classes can give and keep one each")
    order = epoch_order(len(classes), seed, HELD_OUT_EPOCH)
    by_class = order[np.argsort(inverse[order], kind="stable")]
    place = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    owner, taken = np.zeros(len(classes), np.int64), np.zeros(len(sizes), np.int64)
    for number, count in enumerate(counts, 1):
        each = np.array(largest_remainder(count, sizes.tolist(), (left - taken).tolist()), np.int64)
        begin, end = np.repeat(taken, sizes), np.repeat(taken + each, sizes)
        owner[by_class[(place >= begin) & (place < end)]] = number
        taken += each
    return _of_owner(owner)


def hold_out_grouped(groups: npt.NDArray[np.uint64], counts: Sequence[int], seed: int) -> HeldOut:
    """Whole groups: as many documents as fit, fewer than asked for by less than the largest group.

    Raises:
        DataError: there are too few groups, or none of them fits.
    """
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    splits = 1 + sum(count > 0 for count in counts)
    if len(names) < splits:
        raise DataError(f"data.split_by=grouped: {len(names)} groups are too few for {splits} splits")
    owners = np.zeros(len(names), np.int64)
    order = epoch_order(len(names), seed, HELD_OUT_EPOCH)
    for number, count in enumerate(counts, 1):
        filled = 0
        for group in order:
            if owners[group] == 0 and filled + sizes[group] <= count:
                owners[group] = number
                filled += int(sizes[group])
        if count and not filled:
            smallest = int(sizes[owners == 0].min())
            raise DataError(
                f"data.split_by=grouped: no group fits into the {count} rows of "
                f"{'validation' if number == 1 else 'test'}; the smallest left has {smallest}: give a "
                f"data.{'validation' if number == 1 else 'test'}_size of {smallest} or more"
            )
    return _of_owner(owners[inverse])


def _of_owner(owner: LongArray) -> HeldOut:
    return HeldOut(*(np.flatnonzero(owner == number) for number in range(3)))
