"""Curves in a terminal: a sparkline in a line, a plot of several lines. Pure: values in, text out.

Braille patterns draw eight dots in a letter; `plain` draws with ASCII alone, for terminals that have no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]

BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%#"
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille pattern by row and column."""

BRAILLE = 0x2800
LOGARITHMIC = 20.0
"""Largest over smallest value from which positive values are drawn by their powers."""


def sparkline(points: Points, width: int, plain: bool = False) -> str:
    """A curve as at most `width` blocks, evenly spaced over its steps; what is not finite is a gap."""
    values = evenly(points, width)
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    glyphs = PLAIN_BLOCKS if plain else BLOCKS
    low, high = min(finite), max(finite)
    return "".join(glyphs[_level(value, low, high, len(glyphs))] if math.isfinite(value) else " " for value in values)


def evenly(points: Points, count: int) -> list[float]:
    """The means of a curve over at most `count` equal ranges of its steps; one without values has that before it.

    NaN where the values of a range are not finite.
    """
    count = min(count, len(points))
    if count < 1:
        return []
    first, last = points[0][0], points[-1][0]
    ranges: list[list[float]] = [[] for _ in range(count)]
    for x, y in points:
        ranges[min(count - 1, int((x - first) / max(last - first, 1e-9) * count))].append(y)
    means: list[float] = []
    for values in ranges:
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            means.append(sum(finite) / len(finite))
        else:
            means.append(math.nan if values or not means else means[-1])
    return means


def _level(value: float, low: float, high: float, count: int) -> int:
    return 0 if high == low else min(count - 1, int((value - low) / (high - low) * count))


def plot(
    curve: Points, width: int, height: int, marks: Points = (), x_end: float | None = None, plain: bool = False
) -> list[str]:
    """A curve with its scale on the left and its steps below, in exactly `height` lines of at most `width` letters.

    Positive values of very different size are drawn by their powers.

    Args:
        marks: single values on the same scale, such as evaluations; drawn as `o`.
        x_end: how far the steps go (default: to the last point).
    """
    shown = [(x, y) for x, y in curve if math.isfinite(y)]
    extra = [(x, y) for x, y in marks if math.isfinite(y)]
    if not shown and not extra:
        return ["(nothing yet)", *[""] * (height - 1)]
    ys = [y for _, y in [*shown, *extra]]
    low, high = min(ys), max(ys)
    powers = low > 0 and high / low >= LOGARITHMIC
    if powers:
        shown, extra = [[(x, math.log(y)) for x, y in points] for points in (shown, extra)]
    scale = (math.log(low), math.log(high)) if powers else (low, high)
    first, last = min(x for x, _ in [*shown, *extra]), max(x for x, _ in [*shown, *extra])
    last = max(last, x_end or last)
    labels = _labels(low, high, height - 1, powers)
    margin = max(map(len, labels))
    columns = max(1, width - margin - 2)
    canvas = _Canvas(columns, height - 1, (first, last), scale, plain)
    canvas.curve(shown)
    for x, y in extra:
        canvas.mark(x, y)
    axis = "|" if plain else "│"
    lines = [f"{label:>{margin}} {axis}{row}".rstrip() for label, row in zip(labels, canvas.rows(), strict=True)]
    begin, end = f"{first:g}", f"{last:g}"
    return [*lines, f"{'':{margin}}  {begin}{end:>{max(1, columns - len(begin))}}"]


def _labels(low: float, high: float, rows: int, powers: bool) -> list[str]:
    """The scale: its ends, and its middle where there is room."""
    labels = [""] * rows
    labels[-1] = f"{low:.4g}"
    labels[0] = f"{high:.4g}"
    if rows >= 5:
        share = (rows // 2) / (rows - 1)
        labels[rows // 2] = f"{high * (low / high) ** share if powers else high + (low - high) * share:.3g}"
    return labels


class _Canvas:
    """Dots by column and row: two by four in a letter, or one where only ASCII can be shown."""

    def __init__(
        self, columns: int, rows: int, across: tuple[float, float], up: tuple[float, float], plain: bool
    ) -> None:
        self._plain = plain
        self._wide, self._high = (1, 1) if plain else (2, 4)
        self._width, self._height = columns * self._wide, rows * self._high
        self._across, self._up = across, up
        self._bits = [[0] * columns for _ in range(rows)]
        self._marks: dict[tuple[int, int], str] = {}

    def curve(self, points: Points) -> None:
        """The curve: in each column of dots the range of its values there, joined to the column before."""
        columns: dict[int, list[int]] = {}
        for x, y in points:
            columns.setdefault(self._column(x), []).append(self._row(y))
        before: tuple[int, list[int]] | None = None
        for column, found in sorted(columns.items()):
            self._fill(column, min(found), max(found))
            if before is not None:
                self._join(before[0], before[1][-1], column, found[0])
            before = column, found

    def mark(self, x: float, y: float) -> None:
        """One value as a letter of its own."""
        self._marks[self._row(y) // self._high, self._column(x) // self._wide] = "o"

    def rows(self) -> list[str]:
        """The lines, from the top."""
        return ["".join(self._letter(row, column) for column in range(len(self._bits[row]))) for row in self._range]

    @property
    def _range(self) -> range:
        return range(len(self._bits))

    def _letter(self, row: int, column: int) -> str:
        if (row, column) in self._marks:
            return self._marks[row, column]
        bits = self._bits[row][column]
        return " " if not bits else "*" if self._plain else chr(BRAILLE + bits)

    def _column(self, x: float) -> int:
        return _place(x, *self._across, self._width)

    def _row(self, y: float) -> int:
        return self._height - 1 - _place(y, *self._up, self._height)

    def _fill(self, column: int, top: int, bottom: int) -> None:
        for row in range(top, bottom + 1):
            bit = 1 if self._plain else DOTS[row % 4][column % 2]
            self._bits[row // self._high][column // self._wide] |= bit

    def _join(self, left: int, left_row: int, right: int, right_row: int) -> None:
        span = right - left
        for column in range(left + 1, right):
            row = round(left_row + (right_row - left_row) * (column - left) / span)
            self._fill(column, row, row)
        near = round(left_row + (right_row - left_row) * (span - 1) / span)
        self._fill(right, min(near, right_row), max(near, right_row))


def _place(value: float, low: float, high: float, count: int) -> int:
    return 0 if high <= low else min(count - 1, max(0, int((value - low) / (high - low) * (count - 1) + 0.5)))
