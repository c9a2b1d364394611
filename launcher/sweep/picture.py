"""Pictures of a sweep: SVG, written by hand, since a plotting library is more than a login node should need. Pure.

One parameter: its values against the metric. Several: parallel coordinates, a line a point through its value of each.
Whoever points at a mark reads the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from launcher.sweep.axis import Axis, axis, shown
from launcher.sweep.ranking import Criterion, Ranked

WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 320, 80, 40, 190
BEST, INK = "#d62728", "#444"


def comparison_picture(ranked: Sequence[Ranked], criterion: Criterion) -> str:
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


def scatter(ranked: Sequence[Ranked], key: str, criterion: Criterion) -> str:
    """One parameter against the metric."""
    across = axis(key, [one.result.values[key] for one in ranked])
    up = axis(criterion.metric, [one.value for one in ranked if one.value is not None])
    floor = TOP + HEIGHT
    body = [text(LEFT, 20, f"{criterion.metric} over {key}", "start")]
    body.append(f'<path d="M {LEFT} {TOP} V {floor} H {LEFT + WIDTH}" stroke="black" fill="none"/>')
    body += [text(LEFT + WIDTH * at, floor + 18, label, "middle") for at, label in across.ticks()]
    body += [text(LEFT - 6, floor - HEIGHT * at + 4, label, "end") for at, label in up.ticks()]
    body.append(text(LEFT + WIDTH / 2, floor + 38, key, "middle"))
    places: list[tuple[float, float]] = []
    for one in reversed(ranked):
        x, y = across.place(one.result.values[key]), up.place(one.value if one.value is not None else "")
        if x is None or y is None:
            continue
        at = LEFT + WIDTH * x, floor - HEIGHT * y
        places.append(at)
        size = 6 if one.place == 1 else 4
        title = f"<title>{escape(_title(one, criterion))}</title>"
        mark = f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{size}" fill="{colour(one, len(ranked))}">'
        body.append(f"{mark}{title}</circle>")
    if not across.words and len({x for x, _ in places}) == len(places) > 1:
        body.insert(1, f'<path d="{_line(sorted(places))}" fill="none" stroke="#ccc"/>')
    return document(body, LEFT + WIDTH + 40, floor + 50)


def parallel_coordinates(ranked: Sequence[Ranked], keys: Sequence[str], criterion: Criterion) -> str:
    """A line a point through its value of each parameter and of the metric, which is the last axis."""
    axes = [axis(key, [one.result.values[key] for one in ranked]) for key in keys]
    axes.append(axis(criterion.metric, [one.value for one in ranked if one.value is not None]))
    floor = TOP + HEIGHT + 20
    body = [text(LEFT, 20, f"{len(ranked)} points by {criterion.words}", "start")]
    for one in reversed(ranked):
        values = [*(one.result.values[key] for key in keys), one.value if one.value is not None else ""]
        places = [scale.place(value) for scale, value in zip(axes, values, strict=True)]
        line = [(float(LEFT + GAP * index), floor - HEIGHT * at) for index, at in enumerate(places) if at is not None]
        width = 3 if one.place == 1 else 1.3
        title = f"<title>{escape(_title(one, criterion))}</title>"
        stroke = f'stroke="{colour(one, len(ranked))}" stroke-width="{width}"'
        body.append(f'<path d="{_line(line)}" fill="none" {stroke}>{title}</path>')
    body += [part for index, scale in enumerate(axes) for part in _upright(scale, LEFT + GAP * index, floor)]
    return document(body, LEFT + GAP * (len(axes) - 1) + 130, floor + 40)


def _upright(scale: Axis, x: int, floor: int) -> list[str]:
    bar = f'<path d="M {x} {floor - HEIGHT} V {floor}" stroke="black"/>'
    labels = [text(x + 6, floor - HEIGHT * at + 4, label, "start") for at, label in scale.ticks()]
    return [bar, *labels, text(x, floor + 24, scale.name, "middle")]


def colour(one: Ranked, count: int) -> str:
    """The best point's own colour; of the others the lighter, the worse."""
    if one.place is None:
        return "#bbb"
    if one.place == 1:
        return BEST
    return f"hsl(215, 55%, {35 + 45 * (one.place - 1) / max(1, count - 1):.0f}%)"


def _title(one: Ranked, criterion: Criterion) -> str:
    value = "" if one.value is None else f": {criterion.metric} {shown(one.value)}"
    return f"{one.place}. {one.result.point.label}{value}"


def _line(places: Sequence[tuple[float, float]]) -> str:
    return "M " + " L ".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'


def document(body: Sequence[str], width: int, height: int) -> str:
    """A whole picture."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>\n"])
