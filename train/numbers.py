"""What a run remembers of its numbers. It travels in checkpoints, so a resumed run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True)
class RollBack:
    """After step `at` the run went back to the weights that it had after step `to`, and on with step `at` + 1."""

    at: int
    to: int


@dataclass
class Numbers:
    """What a run remembers of its numbers.

    Attributes:
        left_out: steps without an update.
        losses: the last ones that were logged.
        jumps: how many of them in a row, up to the last, were far above those before.
        sound: the step of the last one that was not.
        rolled_back: the oldest first.
    """

    left_out: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    jumps: int = 0
    sound: int = 0
    rolled_back: list[RollBack] = field(default_factory=list)

    def as_state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any] | None) -> Numbers:
        """What a checkpoint kept; nothing where it is of an older run."""
        return cls() if state is None else msgspec.convert(state, cls)

    def counted(self) -> list[int]:
        """The steps without an update that count against the budget: those since the last roll back."""
        since = self.rolled_back[-1].at if self.rolled_back else 0
        return [step for step in self.left_out if step > since]

    def streak(self) -> list[int]:
        """The last steps in a row that were left out, of those that count."""
        steps = self.counted()
        found = steps[-1:]
        for step in reversed(steps[:-1]):
            if step != found[0] - 1:
                break
            found.insert(0, step)
        return found

    @property
    def unproven(self) -> bool:
        """Whether no loss since the last roll back was sound: what it went back to may be of the trouble too."""
        return bool(self.rolled_back) and self.sound <= self.rolled_back[-1].at

    def is_before(self, step: int, trouble: int) -> bool:
        """Whether the checkpoint of `step` is from before all trouble known: that which began at step `trouble` too."""
        if self.unproven:
            trouble = min(trouble, self.rolled_back[-1].to)
        return step < trouble and not any(one.to < step <= one.at for one in self.rolled_back)
