"""Pictures of a sweep. Pure.

One parameter: its values against the metric. Several: parallel coordinates, a line a point through its value of each.
Whoever points at a mark reads the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.figures import svg
from launcher.figures.axis import Axis, axis, shown
from launcher.sweep.ranking import Criterion, Ranked

WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 320, 80, 40, 190


@dataclass(frozen=True)
class Drawing:
    """A picture before it is one: for a page (`svg.picture`) or for a file of its own (`svg.document`)."""

    body: list[str]
    width: float
    height: float
    about: str

    @property
    def in_page(self) -> str:
        return svg.picture(self.body, self.width, self.height, self.about)

    @property
    def as_file(self) -> str:
        return svg.document(self.body, self.width, self.height, self.about)


def comparison(ranked: Sequence[Ranked], criterion: Criterion) -> Drawing:
    """The points that have a place: a scatter for one parameter that varies, else parallel coordinates."""
    shows = [one for one in ranked if one.place is not None]
    keys = varying([one for one in ranked if one.value is not None] or ranked)
    if len(keys) == 1:
        return scatter(shows, keys[0], criterion)
    return parallel_coordinates(shows, keys, criterion)


def varying(ranked: Sequence[Ranked]) -> list[str]:
    """The parameters that are not the same at all points; all of them where none varies."""
    keys = list(ranked[0].result.values) if ranked else []
    return [key for key in keys if len({one.result.values[key] for one in ranked}) > 1] or keys


def scatter(ranked: Sequence[Ranked], key: str, criterion: Criterion) -> Drawing:
    """One parameter against the metric."""
    across = axis(key, [one.result.values[key] for one in ranked])
    up = axis(criterion.metric, [one.value for one in ranked if one.value is not None])
    floor = TOP + HEIGHT
    title = f"{criterion.metric} over {key}"
    body = [svg.text(LEFT, 20, title, kind="title")]
    body.append(svg.line([(LEFT, TOP), (LEFT, floor), (LEFT + WIDTH, floor)], "axis", 1))
    body += [svg.text(LEFT + WIDTH * at, floor + 18, label, "middle") for at, label in across.ticks()]
    body += [svg.text(LEFT - 6, floor - HEIGHT * at + 4, label, "end") for at, label in up.ticks()]
    body.append(svg.text(LEFT + WIDTH / 2, floor + 38, key, "middle"))
    places: list[tuple[float, float]] = []
    marks = []
    for one in reversed(ranked):
        x, y = across.place(one.result.values[key]), up.place(one.value if one.value is not None else "")
        if x is None or y is None:
            continue
        at = LEFT + WIDTH * x, floor - HEIGHT * y
        places.append(at)
        kind, shade = colour(one, len(ranked))
        marks.append(svg.circle(*at, 6 if one.place == 1 else 4, kind, _title(one, criterion), shade))
    if not across.words and len({x for x, _ in places}) == len(places) > 1:
        body.append(svg.line(sorted(places), "grid", 1))
    return Drawing([*body, *marks], LEFT + WIDTH + 40, floor + 50, f"{title}: {len(places)} points")


def parallel_coordinates(ranked: Sequence[Ranked], keys: Sequence[str], criterion: Criterion) -> Drawing:
    """A line a point through its value of each parameter and of the metric, which is the last axis."""
    axes = [axis(key, [one.result.values[key] for one in ranked]) for key in keys]
    axes.append(axis(criterion.metric, [one.value for one in ranked if one.value is not None]))
    floor = TOP + HEIGHT + 20
    title = f"{len(ranked)} points by {criterion.words}"
    body = [svg.text(LEFT, 20, title, kind="title")]
    for one in reversed(ranked):
        values = [*(one.result.values[key] for key in keys), one.value if one.value is not None else ""]
        places = [scale.place(value) for scale, value in zip(axes, values, strict=True)]
        line = [(float(LEFT + GAP * index), floor - HEIGHT * at) for index, at in enumerate(places) if at is not None]
        kind, shade = colour(one, len(ranked))
        body.append(svg.line(line, kind, 3 if one.place == 1 else 1.3, _title(one, criterion), shade))
    body += [part for index, scale in enumerate(axes) for part in _upright(scale, LEFT + GAP * index, floor)]
    return Drawing([part for part in body if part], LEFT + GAP * (len(axes) - 1) + 130, floor + 40, title)


def _upright(scale: Axis, x: int, floor: int) -> list[str]:
    bar = svg.line([(x, floor - HEIGHT), (x, floor)], "axis", 1)
    labels = [svg.text(x + 6, floor - HEIGHT * at + 4, label) for at, label in scale.ticks()]
    return [bar, *labels, svg.text(x, floor + 24, scale.name, "middle")]


def colour(one: Ranked, count: int) -> tuple[str, str]:
    """The class of a point's colour, the best having its own, and how strong it is: the fainter, the worse."""
    if one.place is None:
        return "other", ""
    if one.place == 1:
        return "best", ""
    strength = 1 - 0.75 * (one.place - 1) / max(1, count - 1)
    return "c0", f' opacity="{strength:.2f}"'


def _title(one: Ranked, criterion: Criterion) -> str:
    value = "" if one.value is None else f": {criterion.metric} {shown(one.value)}"
    return f"{one.place}. {one.result.point.label}{value}"
