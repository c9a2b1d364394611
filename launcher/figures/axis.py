"""One axis of a picture: numbers on a line, powers on a logarithmic one, words beside each other. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Value = float | str
LOGARITHMIC = 20.0
"""Largest over smallest value from which positive numbers are shown by their powers."""


@dataclass(frozen=True)
class Axis:
    """Where values lie between 0 and 1. Words, where there are any, are places of their own, numbers among them too."""

    name: str
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False
    words: tuple[str, ...] = ()

    def place(self, value: Value) -> float | None:
        """Where a value lies; None for a number that cannot be shown."""
        if self.words:
            text = shown(value)
            return (self.words.index(text) + 0.5) / len(self.words) if text in self.words else None
        if not isinstance(value, float) or not math.isfinite(value) or (self.logarithmic and value <= 0):
            return None
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return 0.5 if high == low else (at - low) / (high - low)

    def whole_ticks(self) -> list[tuple[float, str]]:
        """The ticks that are whole numbers: steps come in no parts."""
        values = [(at, self.low + at * (self.high - self.low)) for at, _ in self.ticks()]
        return [(at, f"{round(value):,}") for at, value in values if abs(value - round(value)) < 1e-6 * max(1, value)]

    def ticks(self) -> list[tuple[float, str]]:
        """Places with their labels."""
        if self.words:
            return [((index + 0.5) / len(self.words), word) for index, word in enumerate(self.words)]
        if self.low == self.high:
            return [(0.5, shown(self.low))]
        if not self.logarithmic:
            return [(self.place(value) or 0.0, shown(value)) for value in round_values(self.low, self.high)]
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        every = max(1, (last - first) // 5)
        powers = [10.0**power for power in range(first, last + 1, every)]
        values = powers if len(powers) > 1 else [self.low, *powers, self.high]
        return [(self.place(value) or 0.0, shown(value)) for value in sorted(set(values))]


def round_values(low: float, high: float, most: int = 5) -> list[float]:
    """Two to six values from `low` to `high`, a round distance apart: 1, 2, 2.5 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    apart = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    values = [number * apart for number in range(first, last + 1)]
    return values if len(values) > 1 else [low, high]


def axis(name: str, values: Iterable[Value]) -> Axis:
    """The axis that shows these values."""
    seen = list(values)
    if any(isinstance(value, str) for value in seen):
        return Axis(name, words=tuple(dict.fromkeys(map(shown, seen))))
    numbers = [value for value in seen if isinstance(value, float) and math.isfinite(value)]
    if not numbers:
        return Axis(name)
    low, high = min(numbers), max(numbers)
    return Axis(name, low, high, logarithmic=low > 0 and high / low >= LOGARITHMIC)


def shown(value: Value) -> str:
    """A value as a label: `1e-05`, `0.1`, `zero2`."""
    return f"{value:.4g}" if isinstance(value, float) else value
