"""How much each swept parameter had to say. Pure.

The points that are done are ranked by the metric, so that one that diverged does not drown the others. A parameter's
importance is the share of the variance of these ranks that lies between its values, corrected for what chance alone
would give: epsilon squared of a one-way analysis of variance (Kelley, PNAS 21, 1935), 0 to 1. Many different numbers
are first put into as many groups of neighbours as the root of the number of points.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from launcher.figures.axis import Value

IN_WORDS = (
    "Share of the variance of the points' ranks that lies between a parameter's values, corrected for chance "
    "(epsilon squared of a one-way analysis of variance): 0 says nothing, 1 says everything. Points that failed or "
    "have no finite value are left out; parameters that act only together show little here."
)


def importances(values: Mapping[str, Sequence[Value]], metric: Sequence[float]) -> dict[str, float | None]:
    """Importance of each parameter, the largest first; None where there are too few points to tell.

    Args:
        values: each parameter's value at each point.
        metric: the metric at each point, finite.
    """
    ranks = ranked(metric)
    shares = {key: _explained(_groups(points), ranks) for key, points in values.items()}
    return dict(sorted(shares.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True))


def ranked(metric: Sequence[float]) -> list[float]:
    """Each value's place from 1; equal ones share the mean of theirs."""
    places: dict[float, list[int]] = defaultdict(list)
    for place, value in enumerate(sorted(metric), start=1):
        places[value].append(place)
    return [sum(places[value]) / len(places[value]) for value in metric]


def _groups(values: Sequence[Value]) -> list[Value]:
    """The group of each point: its value, or of many numbers the group of neighbours it is in."""
    distinct = sorted({value for value in values if isinstance(value, float)})
    most = max(2, math.isqrt(len(values)))
    if len(distinct) <= most or len(distinct) < len(set(values)):
        return list(values)
    group = {value: place * most // len(distinct) for place, value in enumerate(distinct)}
    return [float(group[value]) if isinstance(value, float) else value for value in values]


def _explained(groups: Sequence[Value], ranks: Sequence[float]) -> float | None:
    members: dict[Value, list[float]] = defaultdict(list)
    for group, place in zip(groups, ranks, strict=True):
        members[group].append(place)
    count, kinds = len(ranks), len(members)
    if kinds < 2 or count <= kinds:
        return None
    mean = sum(ranks) / count
    whole = sum((place - mean) ** 2 for place in ranks)
    if whole == 0:
        return 0.0
    within = sum((place - sum(own) / len(own)) ** 2 for own in members.values() for place in own)
    return max(0.0, 1 - within / (count - kinds) / (whole / (count - 1)))
