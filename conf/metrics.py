"""Reading metrics.jsonl: what of several attempts at a step counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Line = dict[str, Any]


class Steps:
    """Metrics by step, as lines come.

    An attempt that goes on after a step makes the later ones again: what earlier attempts had of these counts no more,
    whether it reaches them or not.
    """

    def __init__(self) -> None:
        self.lines: dict[int, Line] = {}
        self._attempt = 0

    def take(self, line: Line) -> None:
        """One line, in the order of the file; several of an attempt at a step are one."""
        step, attempt = line.get("step"), line.get("attempt", 0)
        if not isinstance(step, int) or attempt < self._attempt:
            return
        if attempt > self._attempt:
            self._attempt = attempt
            for dead in [known for known in self.lines if known >= step]:
                del self.lines[dead]
        self.lines.setdefault(step, {}).update(line)


def merge_steps(lines: Iterable[Line]) -> dict[int, Line]:
    """Metrics by step, of those that count in the end."""
    steps = Steps()
    for line in lines:
        steps.take(line)
    return dict(sorted(steps.lines.items()))
