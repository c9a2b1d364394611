"""The batch equation: global = micro × accumulation × ranks, at the planned world size and those of a resume."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import ceil

from conf.record import Batch
from conf.schema import TrainConfig

ROW_TOKENS = 4096
"""Tokens of a packed row where nothing is known of the memory: enough work for a CPU or GPU, small beside any model."""

PADDED_MICRO = 8
"""Documents of a padded micro batch where nothing is given."""

MANY_NODES = 256
"""Most node counts for which a plan holds a layout."""


def nearest_global(global_batch: int, unit: int) -> list[int]:
    """The multiples of `unit` next to `global_batch`, below and above; itself where it is one."""
    if global_batch > 0 and global_batch % unit == 0:
        return [global_batch]
    below = global_batch // unit * unit
    return [value for value in (below, below + unit) if value > 0]


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`, at least 1."""
    return next(divisor for divisor in range(min(number, max(limit, 1)), 0, -1) if number % divisor == 0)


def padded_batch(train: TrainConfig, world_size: int) -> Batch:
    """The batch of padded documents.

    Raises:
        ValueError: no whole numbers fit; the checks say so before, with the nearest that do.
    """
    total = train.global_batch_size
    micro, accumulation = train.per_device_train_batch_size, train.gradient_accumulation_steps
    if total % world_size:
        raise ValueError(f"global batch {total} is not a multiple of {world_size} ranks")
    per_rank = total // world_size
    if micro is None:
        micro = per_rank // accumulation if accumulation else largest_divisor(per_rank, PADDED_MICRO)
    if micro < 1 or per_rank % micro or accumulation not in (None, per_rank // micro):
        raise ValueError(f"{total} is not micro {micro} × accumulation {accumulation or '?'} × {world_size} ranks")
    return Batch(world_size, total, micro, per_rank // micro)


def packed_batch(train: TrainConfig, world_size: int, max_length: int, document_tokens: float | None) -> Batch:
    """The batch of packed documents: rows of at most micro × `max_length` tokens, and how many a rank and step.

    `document_tokens` is the mean length of a document where it can be told; without it documents count as full.
    """
    per_rank = ceil(train.global_batch_size / world_size)
    micro = train.per_device_train_batch_size or max(1, min(ROW_TOKENS // max_length, per_rank))
    mean = min(document_tokens or max_length, max_length)
    return Batch(world_size, train.global_batch_size, micro, max(1, ceil(per_rank * mean / (micro * max_length))))


def padded_at(planned: Batch, world_size: int) -> Batch | None:
    """The planned batch at another world size with the largest micro batch up to the planned one; None: impossible."""
    if planned.global_batch_size % world_size:
        return None
    per_rank = planned.global_batch_size // world_size
    micro = largest_divisor(per_rank, planned.micro_batch_size)
    return Batch(world_size, planned.global_batch_size, micro, per_rank // micro)


def packed_at(planned: Batch, world_size: int) -> Batch | None:
    """The planned packed batch at another world size; None where ranks would have no documents at all."""
    if world_size > planned.global_batch_size:
        return None
    rows = planned.accumulation * planned.world_size
    return Batch(world_size, planned.global_batch_size, planned.micro_batch_size, max(1, ceil(rows / world_size)))


def resumable_world_sizes(nodes: int, ranks_per_node: int) -> list[int]:
    """World sizes for which a plan holds a layout: up to twice the nodes, and parts of one node."""
    stride = ceil(2 * nodes / MANY_NODES)
    whole = {count * ranks_per_node for count in (*range(stride, 2 * nodes + 1, stride), nodes)}
    return sorted(whole | set(range(1, 2 * ranks_per_node + 1)))


def equation(batch: Batch, packed: bool, max_length: int) -> str:
    """The batch as an equation; packed, the documents of a step decide how full the rows are."""
    ranks = f"{batch.world_size} rank{'s' if batch.world_size > 1 else ''}"
    if not packed:
        return (
            f"{batch.global_batch_size} documents = {batch.micro_batch_size} micro batch × "
            f"{batch.accumulation} accumulation × {ranks}"
        )
    rows = f"{batch.accumulation} row{'s' if batch.accumulation > 1 else ''}"
    return (
        f"{batch.global_batch_size} documents ≈ {ranks} × {rows} of up to {batch.micro_batch_size * max_length} tokens"
    )


def expected_share(lengths: Sequence[int], global_batch: int, ranks: int) -> float | None:
    """Expected useful share of rank time with packing: a step's documents, longest first, onto the emptiest rank.

    `lengths` is a sample in any unit; steps are drawn from it in order, around its end. None without a sample.
    """
    if not lengths or ranks < 1:
        return None
    trials = max(1, min(8, len(lengths) // max(1, global_batch)))
    useful = taken = 0
    for trial in range(trials):
        step = [lengths[(trial * global_batch + place) % len(lengths)] for place in range(min(global_batch, 1 << 14))]
        loads = [0] * ranks
        for length in sorted(step, reverse=True):
            heapq.heapreplace(loads, loads[0] + length)
        useful += sum(loads)
        taken += ranks * max(loads)
    return useful / taken if taken else None
