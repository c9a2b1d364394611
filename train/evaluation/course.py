"""The course of a run's evaluations: what they have said so far. It travels in checkpoints, so a resumed run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from train.evaluation.best import Contest
from train.evaluation.overfit import Point, kept, warning


@dataclass
class Course:
    """What the evaluations of a run have said.

    Attributes:
        step: of the last evaluation of the validation set; -1 before it.
        contest: which of them was the best.
        metrics: the last value of each metric of each split, such as `eval/loss`.
        points: what the last evaluations say about over-fitting.
        overfit: the run is known to over-fit.
        losses, lines: sum and number of the training losses logged since the last evaluation.
    """

    step: int = -1
    contest: Contest = field(default_factory=Contest)
    metrics: dict[str, float] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    overfit: bool = False
    losses: float = 0.0
    lines: int = 0

    def learn(self, loss: float) -> None:
        """A logged training loss."""
        self.losses += loss
        self.lines += 1

    def take(self, split: str, values: Mapping[str, float]) -> None:
        """The metrics of a split: `eval` or `test`."""
        self.metrics.update({f"{split}/{name}": float(value) for name, value in values.items()})

    def overfitting(self, step: int, validation: float) -> str | None:
        """Add an evaluation; a warning where the run begins to over-fit, once."""
        if not self.lines:
            return None
        self.points = [*kept(self.points), Point(step, self.losses / self.lines, validation)]
        self.losses, self.lines = 0.0, 0
        text = None if self.overfit else warning(self.points)
        self.overfit = self.overfit or text is not None
        return text

    def as_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any] | None) -> Course:
        """The course that a checkpoint kept; an empty one where it has none."""
        return cls() if state is None else msgspec.convert(state, cls)
