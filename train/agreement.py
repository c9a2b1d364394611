"""Decisions that all ranks take together. Nothing between nodes rests on what a shared folder happens to show.

Without a process group there is one rank, which agrees with itself.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(value: T) -> list[T]:
    """Every rank's `value`, in rank order, on every rank; a collective. Values travel pickled: keep them small."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


def said_by_rank_0(value: T) -> T:
    """Rank 0's `value` on every rank; a collective."""
    if world_size() == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0)
    return cast("T", values[0])


def first_error(error: Exception | None) -> Exception | None:
    """The error of the lowest rank that has one, on every rank; a collective."""
    return next((found for found in gathered(_portable(error)) if found is not None), None)


def _portable(error: Exception | None) -> Exception | None:
    """An error that can be sent to other ranks: plain ones as they are, others by their words."""
    if error is None or isinstance(error, OSError):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
