"""What a run's plan predicted beside what its attempts measured, for `muster status` and whoever reports on a run."""

from __future__ import annotations

from dataclasses import dataclass

from conf.layout import RunFolder
from launcher.runs.read import read_lines


@dataclass(frozen=True)
class Compared:
    """A figure of the plan with its band, and what was measured: bytes, or seconds of a step."""

    predicted: float
    low: float
    high: float
    measured: float
    attempt: int

    @property
    def ratio(self) -> float:
        """Measured to predicted."""
        return self.measured / self.predicted

    @property
    def within(self) -> bool:
        """Whether it came out within the band."""
        return self.low <= self.measured <= self.high


def compared_memory(folder: RunFolder) -> Compared | None:
    """Memory after the first step of the newest attempt that measured it: of a rank's GPU, or of a node's ranks."""
    return _last(folder, "memory_measured")


def compared_step(folder: RunFolder) -> Compared | None:
    """Seconds of a step, at the end of the newest attempt that measured them."""
    return _last(folder, "time_measured")


def _last(folder: RunFolder, event: str) -> Compared | None:
    found = None
    for line in read_lines(folder.events):
        values = [line.get(name) for name in ("predicted", "low", "high", "measured")]
        numbers = [float(value) for value in values if isinstance(value, float | int) and value > 0]
        if line.get("event") == event and len(numbers) == len(values):
            predicted, low, high, measured = numbers
            found = Compared(predicted, low, high, measured, int(line.get("attempt") or 0))
    return found
