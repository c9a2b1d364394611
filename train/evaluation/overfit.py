"""Over-fitting: the validation loss rises while the training loss still falls. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

RISES = 2
"""Evaluations in a row that have to be worse than the one before; one alone is noise."""

NOTABLE = 0.01
"""Share of the lowest validation loss by which it has to have risen."""


@dataclass(frozen=True)
class Point:
    """One evaluation: mean training loss of the steps since the one before, and the validation loss."""

    step: int
    training: float
    validation: float

    @property
    def gap(self) -> float:
        return self.validation - self.training


def warning(points: Sequence[Point]) -> str | None:
    """A warning with the figures where the last evaluations show over-fitting; None where they do not.

    Args:
        points: the evaluation with the lowest validation loss, and all or the last ones after it.
    """
    recent = points[-(RISES + 1) :]
    if len(recent) <= RISES or not all(math.isfinite(point.gap) for point in points):
        return None
    rising = all(after.validation > before.validation for before, after in itertools.pairwise(recent))
    lowest, last = min(points, key=lambda point: point.validation), points[-1]
    if not rising or last.training >= lowest.training:
        return None
    if last.validation - lowest.validation <= NOTABLE * abs(lowest.validation):
        return None
    return (
        f"over-fitting: from step {lowest.step} to {last.step} the validation loss rose from {lowest.validation:.4f} "
        f"to {last.validation:.4f} while the training loss fell from {lowest.training:.4f} to {last.training:.4f}; "
        "fewer epochs, a lower learning rate, more data, or train.load_best_model_at_end=true"
    )


def kept(points: Sequence[Point]) -> list[Point]:
    """The points that `warning` has to see again: the lowest and the last ones."""
    lowest = min(range(len(points)), key=lambda place: points[place].validation, default=0)
    return [point for place, point in enumerate(points) if place == lowest or place >= len(points) - RISES]
