"""The curves of all points of a sweep in one picture: SVG, written by hand. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from launcher.sweep.axis import axis
from launcher.sweep.picture import HEIGHT, LEFT, TOP, WIDTH, colour, document, text
from launcher.sweep.ranking import Ranked

Curve = Sequence[tuple[int, float]]
MOST = 300
"""Places of a curve that are drawn."""


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
    body = [text(LEFT, 20, f"{metric} over steps", "start")]
    placed = sum(one.place is not None for one in ranked)
    for one in reversed(ranked):
        curve = thinned(finite.get(one.result.point.run_id, []))
        places = [(across.place(float(step)), up.place(value)) for step, value in curve]
        line = [
            f"{LEFT + WIDTH * x:.1f} {floor - HEIGHT * y:.1f}" for x, y in places if x is not None and y is not None
        ]
        if line:
            line = line if len(line) > 1 else line * 2
            stroke = f'stroke="{colour(one, placed)}" stroke-width="{2.5 if one.place == 1 else 1.2}"'
            title = f"<title>{escape(one.result.point.label)}</title>"
            body.append(f'<path d="M {" L ".join(line)}" fill="none" stroke-linecap="round" {stroke}>{title}</path>')
    body.append(f'<path d="M {LEFT} {TOP} V {floor} H {LEFT + WIDTH}" stroke="black" fill="none"/>')
    body += [text(LEFT + WIDTH * at, floor + 18, label, "middle") for at, label in across.ticks()]
    body += [text(LEFT - 6, floor - HEIGHT * at + 4, label, "end") for at, label in up.ticks()]
    return document(body, LEFT + WIDTH + 40, floor + 30)


def thinned(curve: Curve) -> Curve:
    """Every so many places of a long curve, with its last."""
    every = -(-len(curve) // MOST)
    return curve if every <= 1 else [*curve[:-1:every], curve[-1]]
