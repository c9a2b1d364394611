"""Reading metrics.jsonl: what of several attempts at a step counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Line = dict[str, Any]


def merge_steps(lines: Iterable[Line]) -> dict[int, Line]:
    """Metrics by step; the keys of later attempts win over those of earlier ones."""
    steps: dict[int, Line] = {}
    for line in lines:
        step = line.get("step")
        if not isinstance(step, int):
            continue
        known = steps.get(step)
        if known is None or line.get("attempt", 0) > known.get("attempt", 0):
            steps[step] = dict(line)
        elif line.get("attempt", 0) == known.get("attempt", 0):
            known.update(line)
    return dict(sorted(steps.items()))
