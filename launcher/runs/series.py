"""Curves of a run in little memory: values by step, thinned evenly as they grow. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.runs.read import Line, number

MOST = 1024
"""Places of a curve from which every other one is dropped."""


class Series:
    """The curves of some metrics, without names of all. What a later attempt makes again replaces what was there."""

    def __init__(self, names: Iterable[str] | None = None, most: int = MOST) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {name: [] for name in names or ()}
        self._all = names is None
        self._apart: dict[str, float] = {}
        self._most = most

    def take(self, line: Line, only: str | None = None) -> None:
        """One line of metrics.jsonl, in the order of the file; with `only`, of one metric of it."""
        step = line.get("step")
        if not isinstance(step, int):
            return
        names = [name for name in line if "/" in name] if self._all else self.points
        for name in names if only is None else (only,):
            value = number(line.get(name))
            if value is not None:
                self._add(name, step, value)

    def _add(self, name: str, step: int, value: float) -> None:
        points = self.points.setdefault(name, [])
        while points and points[-1][0] >= step:
            points.pop()
        # The newest place is always there; it stays once it is far enough from the one before.
        if len(points) > 1 and points[-1][0] - points[-2][0] < self._apart.get(name, 0.0):
            points.pop()
        points.append((step, value))
        if len(points) > self._most:
            del points[-2::-2]
            self._apart[name] = (points[-1][0] - points[0][0]) / len(points)
