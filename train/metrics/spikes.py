"""Whether a loss jumps: by how many robust deviations it lies above those before. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

REMEMBERED = 32
ENOUGH = 8
"""Losses before the first judgement."""

CONSISTENT = 1.4826
"""Median distance from the median × this = standard deviation, for normal noise (Rousseeuw and Croux, 1993)."""

SMALLEST = 0.01
"""A deviation counts as this share of the median at least, so that a flat curve does not jump by rounding."""


def deviations(losses: Sequence[float], loss: float) -> float | None:
    """How many robust standard deviations `loss` lies above the median of `losses`; None while they are few."""
    if len(losses) < ENOUGH:
        return None
    median = statistics.median(losses)
    spread = CONSISTENT * statistics.median(abs(one - median) for one in losses)
    return (loss - median) / max(spread, SMALLEST * abs(median), 1e-12)


def remembered(losses: Sequence[float], loss: float) -> list[float]:
    """The losses to judge the next one by."""
    return [*losses, loss][-REMEMBERED:]
