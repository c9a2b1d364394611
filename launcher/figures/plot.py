"""Curves over steps as a picture: lines with their scale, marks, an expected band, values under the pointer. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from launcher.figures import svg
from launcher.figures.axis import Axis, axis, shown

WIDTH, HEIGHT = 460.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 34.0, 34.0
MOST = 400
"""Places of a line that are drawn."""

POINTED = 90
"""Columns in which a pointer finds values."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line: its name, its places, the class of its colour. `marks` draws its places, not the line between them."""

    name: str
    points: Points
    kind: str = "c0"
    marks: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """What was expected: from `low` to `high`."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Plot:
    """What a picture shows. `moments` are steps at which something happened, in words; `levels` values that matter."""

    title: str
    curves: Sequence[Curve]
    across: str = "step"
    levels: Sequence[tuple[str, float]] = ()
    band: Band | None = None
    moments: Sequence[tuple[float, str]] = ()
    from_zero: bool = False
    x_end: float | None = None
    form: str = ".4g"
    finite: Sequence[Curve] = field(init=False, default=())

    def __post_init__(self) -> None:
        kept = [replace(each, points=[(x, y) for x, y in each.points if math.isfinite(y)]) for each in self.curves]
        object.__setattr__(self, "finite", [each for each in kept if each.points])


def plot_picture(plot: Plot) -> str:
    """The picture; a word instead of it where there is nothing to show."""
    if not plot.finite:
        body = [svg.text(0, 18, plot.title, kind="title"), svg.text(0, 44, "no values")]
        return svg.picture(body, WIDTH, HEIGHT, f"{plot.title}: no values")
    return svg.picture(_body(plot), WIDTH, HEIGHT, about(plot))


def about(plot: Plot) -> str:
    """The picture in words: each curve's first and last value."""
    said = [
        f"{each.name} {each.points[0][1]:{plot.form}} at {plot.across} {each.points[0][0]:g} to "
        f"{each.points[-1][1]:{plot.form}} at {each.points[-1][0]:g}"
        for each in plot.finite
    ]
    return f"{plot.title}: {'; '.join(said)}"


def _body(plot: Plot) -> list[str]:
    across, up = _axes(plot)
    scale = _Scale(across, up)
    parts = [svg.text(0, 18, plot.title, kind="title"), *_legend(plot)]
    parts += _band(plot, scale)
    for at, label in up.ticks():
        y = scale.floor - scale.height * at
        parts.append(svg.line([(LEFT, y), (WIDTH - RIGHT, y)], "grid", 1))
        parts.append(svg.text(LEFT - 7, y + 4, label, "end"))
    for at, label in across.whole_ticks():
        parts.append(svg.text(LEFT + scale.width * at, scale.floor + 17, label, "middle"))
    parts.append(svg.line([(LEFT, scale.floor), (WIDTH - RIGHT, scale.floor)], "axis", 1))
    parts += [_moment(scale, x, words) for x, words in plot.moments]
    for name, value in plot.levels:
        level = scale.y(value)
        if level is not None:
            parts.append(
                svg.line([(LEFT, level), (WIDTH - RIGHT, level)], "level", 1.2, more=' stroke-dasharray="4 3"')
            )
            parts.append(svg.text(WIDTH - RIGHT - 3, level - 4, name, "end"))
    parts += [_drawn(each, scale) for each in plot.finite]
    return [part for part in [*parts, *_pointers(plot, scale)] if part]


@dataclass(frozen=True)
class _Scale:
    across: Axis
    up: Axis
    width: float = WIDTH - LEFT - RIGHT
    height: float = HEIGHT - TOP - BOTTOM
    floor: float = HEIGHT - BOTTOM

    def x(self, value: float) -> float | None:
        at = self.across.place(value)
        return None if at is None else LEFT + self.width * at

    def y(self, value: float) -> float | None:
        at = self.up.place(value)
        return None if at is None else self.floor - self.height * at

    def places(self, points: Points) -> list[tuple[float, float]]:
        found = [(self.x(float(x)), self.y(y)) for x, y in points]
        return [(x, y) for x, y in found if x is not None and y is not None]


def _axes(plot: Plot) -> tuple[Axis, Axis]:
    ends = [plot.x_end] if plot.x_end else []
    steps = [*(float(x) for each in plot.finite for x, _ in each.points), *ends]
    across = replace(axis(plot.across, steps), logarithmic=False)
    values = [y for each in plot.finite for _, y in each.points] + [value for _, value in plot.levels]
    values += [plot.band.low, plot.band.high] if plot.band else []
    if plot.from_zero:
        return across, Axis("", 0.0, 1.08 * max([*values, 1e-9]))
    up = axis("", values)
    if not up.logarithmic and up.high > up.low:
        room = 0.04 * (up.high - up.low)
        up = replace(up, low=up.low - (room if up.low < 0 or up.low - room > 0 else 0), high=up.high + room)
    return across, up


def _legend(plot: Plot) -> list[str]:
    """Names of the curves, right above the picture; none where there is one alone."""
    if len(plot.finite) < 2 and plot.band is None:
        return []
    parts, x = [], WIDTH - RIGHT
    entries = [(each.name, each.kind, each.marks) for each in plot.finite]
    for name, kind, marks in reversed([*entries, *([(plot.band.name, "band", False)] if plot.band else [])]):
        parts.append(svg.text(x, 18, name, "end"))
        x -= 6.6 * len(name) + 8
        if kind == "band":
            parts.append(svg.rectangle(x - 12, 9, 12, 9, "band"))
        elif marks:
            parts.append(svg.circle(x - 6, 14, 3.5, kind))
        else:
            parts.append(svg.line([(x - 14, 14), (x, 14)], kind, 2.5))
        x -= 26
    return parts


def _band(plot: Plot, scale: _Scale) -> list[str]:
    if plot.band is None:
        return []
    low, high = scale.y(plot.band.low), scale.y(plot.band.high)
    if low is None or high is None:
        return []
    title = f"{plot.band.name}: {plot.band.low:{plot.form}} to {plot.band.high:{plot.form}}"
    return [svg.rectangle(LEFT, high, scale.width, low - high, "band", title)]


def _moment(scale: _Scale, x: float, words: str) -> str:
    at = scale.x(x)
    if at is None:
        return ""
    return svg.line([(at, TOP), (at, scale.floor)], "moment", 1, words, ' stroke-dasharray="2 3"')


def _drawn(curve: Curve, scale: _Scale) -> str:
    places = scale.places(thinned(curve.points))
    if curve.marks:
        joined = svg.line(places, f"{curve.kind} faint", 1) if len(places) > 1 else ""
        return joined + "".join(svg.circle(x, y, 3.5, curve.kind) for x, y in places)
    return svg.line(places, curve.kind, 1.8, more=' stroke-dasharray="5 4"' if curve.dashed else "")


def _pointers(plot: Plot, scale: _Scale) -> list[str]:
    """Fields across the picture: whoever points at one, or touches it, sees the values there. No script is needed."""
    steps = sorted({float(x) for each in plot.finite for x, _ in each.points})
    chosen = [x for x, _ in thinned([(x, 0.0) for x in steps], POINTED)]
    places = [(x, scale.x(x)) for x in chosen]
    seen = [(x, at) for x, at in places if at is not None]
    parts = []
    for index, (x, at) in enumerate(seen):
        left = (seen[index - 1][1] + at) / 2 if index else LEFT - 4
        right = (seen[index + 1][1] + at) / 2 if index + 1 < len(seen) else WIDTH - RIGHT + 4
        words = [f"{plot.across} {x:g}", *(_said(each, x, plot.form) for each in plot.finite)]
        tip = "  ·  ".join(word for word in words if word)
        field_ = svg.rectangle(left, TOP, right - left, scale.height, "field")
        end = "end" if at > WIDTH / 2 else "start"
        label = svg.text(at + (-6 if end == "end" else 6), TOP + 10, tip, end, "tip")
        rule = svg.line([(at, TOP), (at, scale.floor)], "axis", 1)
        parts.append(f'<g class="at">{field_}<g class="value">{rule}{label}</g></g>')
    return parts


def _said(curve: Curve, x: float, form: str) -> str:
    """The curve's value at a step, or the one nearest to it where it has few."""
    place = bisect_left(curve.points, (x, -math.inf))
    near = [curve.points[index] for index in (place - 1, place) if 0 <= index < len(curve.points)]
    if not near:
        return ""
    step, value = min(near, key=lambda point: abs(point[0] - x))
    return f"{curve.name} {value:{form}}" if step == x or not curve.marks else ""


def thinned(points: Points, most: int = MOST) -> Points:
    """Every so many places of a long curve, with its last."""
    every = -(-len(points) // most)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


__all__ = ["Band", "Curve", "Plot", "Points", "about", "plot_picture", "shown", "thinned"]
