"""What a run remembers of its numbers. It travels in checkpoints, so a resumed run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec


@dataclass
class Numbers:
    """What a run remembers of its numbers.

    Attributes:
        left_out: steps without an update.
        losses: the last ones that were logged.
        jumped: the last of them was a spike.
    """

    left_out: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    jumped: bool = False

    def as_state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any] | None) -> Numbers:
        """What a checkpoint kept; nothing where it is of an older run."""
        return cls() if state is None else msgspec.convert(state, cls)

    def streak(self) -> list[int]:
        """The last steps in a row that were left out."""
        found = self.left_out[-1:]
        for step in reversed(self.left_out[:-1]):
            if step != found[0] - 1:
                break
            found.insert(0, step)
        return found
