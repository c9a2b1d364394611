"""The curves of all points of a sweep in one picture. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from launcher.figures import svg
from launcher.figures.axis import axis
from launcher.figures.plot import thinned
from launcher.sweep.picture import HEIGHT, LEFT, TOP, WIDTH, colour
from launcher.sweep.ranking import Ranked

Curve = Sequence[tuple[int, float]]


def curves_picture(curves: Mapping[str, Curve], ranked: Sequence[Ranked], metric: str) -> str:
    """A line a point over its steps, worst first so that the best lies on top.

    Args:
        curves: step and value by run id.
    """
    finite = {run: [(step, value) for step, value in curve if math.isfinite(value)] for run, curve in curves.items()}
    # Steps pass evenly, however many times the last one is the first.
    across = replace(axis("step", [float(step) for curve in finite.values() for step, _ in curve]), logarithmic=False)
    up = axis(metric, [value for curve in finite.values() for _, value in curve])
    floor = TOP + HEIGHT
    title = f"{metric} over steps"
    body = [svg.text(LEFT, 20, title, kind="title")]
    for at, label in up.ticks():
        y = floor - HEIGHT * at
        body += [svg.line([(LEFT, y), (LEFT + WIDTH, y)], "grid", 1), svg.text(LEFT - 6, y + 4, label, "end")]
    placed = sum(one.place is not None for one in ranked)
    for one in reversed(ranked):
        curve = thinned(finite.get(one.result.point.run_id, []))
        found = [(across.place(float(step)), up.place(value)) for step, value in curve]
        places = [(LEFT + WIDTH * x, floor - HEIGHT * y) for x, y in found if x is not None and y is not None]
        kind, shade = colour(one, placed)
        body.append(svg.line(places, kind, 2.5 if one.place == 1 else 1.2, one.result.point.label, shade))
    body.append(svg.line([(LEFT, TOP), (LEFT, floor), (LEFT + WIDTH, floor)], "axis", 1))
    body += [svg.text(LEFT + WIDTH * at, floor + 18, label, "middle") for at, label in across.whole_ticks()]
    about = f"{title}: {len(curves)} points, the best in red"
    return svg.picture([part for part in body if part], LEFT + WIDTH + 40, floor + 30, about)
