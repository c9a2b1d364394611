"""How the documents of a step are laid out over ranks and micro batches.

Pure. A `Row` is the documents of one rank's micro batch, as indices into the step. Every rank gets the same number of
rows, since ranks meet in each micro batch; rows that came out empty stay in the layout as `()`.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Row = tuple[int, ...]
Layout = list[list[Row]]
"""Rows of each rank: `layout[rank][micro_batch]`."""

Lengths = Sequence[int] | npt.NDArray[np.integer]

DENSE_WINDOW = 8192
"""Documents among which dense packing looks for a row's companions."""


def lay_out(lengths: Lengths, ranks: int, capacity: int) -> Layout:
    """Exact packing: longest document first onto the emptiest of ranks × k rows, with the smallest k that holds them.

    The i-th micro batch of all ranks takes rows of neighbouring size, so that ranks wait little for each other.

    Raises:
        ValueError: a document is longer than `capacity` tokens.
    """
    sizes = [int(length) for length in lengths]
    if sizes and max(sizes) > capacity:
        raise ValueError(f"a document of {max(sizes)} tokens does not fit into a row of {capacity}")
    longest_first = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
    k = max(1, math.ceil(sum(sizes) / (ranks * capacity)))
    while True:
        rows = _emptiest_first(longest_first, sizes, ranks * k)
        if all(total <= capacity for total, _ in rows):
            break
        k += 1
    rows.sort(key=lambda row: -row[0])
    return [[tuple(rows[micro * ranks + rank][1]) for micro in range(k)] for rank in range(ranks)]


def _emptiest_first(order: list[int], sizes: list[int], rows: int) -> list[tuple[int, list[int]]]:
    """Total and documents of each row after dealing `order` to the emptiest row each time."""
    heap: list[tuple[int, int, list[int]]] = [(0, row, []) for row in range(rows)]
    for index in order:
        total, row, members = heap[0]
        members.append(index)
        heapq.heapreplace(heap, (total + sizes[index], row, members))
    return [(total, members) for total, _, members in sorted(heap, key=lambda row: row[1])]


def lay_out_padded(lengths: Lengths, ranks: int, micro: int) -> Layout:
    """Padded batches of `micro` documents: neighbours in length share a micro batch, so that padding is short."""
    order = sorted(range(len(lengths)), key=lambda index: (-int(lengths[index]), index))
    group = ranks * micro
    count = max(1, math.ceil(len(order) / group))
    return [
        [tuple(order[number * group : (number + 1) * group][rank::ranks]) for number in range(count)]
        for rank in range(ranks)
    ]


def deal_rows(rows: Sequence[Row], lengths: Lengths, ranks: int, micro: int) -> Layout:
    """Dense packing's rows of one step, `micro` of them to a micro batch, over the ranks."""
    totals = [sum(int(lengths[index]) for index in row) for row in rows]
    dealt = lay_out_padded(totals, ranks, micro)
    return [[tuple(index for row in group for index in rows[row]) for group in rank] for rank in dealt]


def pack_densely(order: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], capacity: int) -> list[Row]:
    """Dense packing: documents of an epoch in rows of at most `capacity` tokens, by best fit, longest first.

    Companions are looked for within `DENSE_WINDOW` documents of the epoch's order, and rows of a window come in the
    order of their first document, so the data stays shuffled.
    """
    rows: list[Row] = []
    for start in range(0, len(order), DENSE_WINDOW):
        window = order[start : start + DENSE_WINDOW]
        sizes = lengths[window]
        room: list[tuple[int, int]] = []
        members: list[list[int]] = []
        for position in np.argsort(-sizes.astype(np.int64), kind="stable"):
            size = int(sizes[position])
            at = bisect_left(room, (size, -1))
            if at < len(room):
                left, row = room.pop(at)
                members[row].append(int(position))
            else:
                left, row = capacity, len(members)
                members.append([int(position)])
            insort(room, (left - size, row))
        rows.extend(tuple(int(window[p]) for p in sorted(group)) for group in sorted(members, key=min))
    return rows


def useful_share(layout: Layout, lengths: Lengths, padded: bool = False) -> float:
    """Share of the ranks' time that goes into documents: tokens ÷ (ranks × longest rank's tokens, per micro batch)."""
    sizes = [int(length) for length in lengths]

    def cost(row: Row) -> int:
        if not row:
            return 1
        return len(row) * max(sizes[index] for index in row) if padded else sum(sizes[index] for index in row)

    paid = sum(max(cost(rank[micro]) for rank in layout) for micro in range(len(layout[0]))) * len(layout)
    return sum(sizes) / paid if paid else 1.0
