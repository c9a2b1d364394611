"""What the nodes measured, side by side: a line of system.jsonl. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIGITS = 3
HIGH, LOW = "high", "low"
WORST = {
    "memory_percent": HIGH,
    "scratch_percent": HIGH,
    "gpu_memory_percent": HIGH,
    "gpu_temperature_c": HIGH,
    "gpu_util_percent": LOW,
}
"""Figures of which one node is the worst, and at which end it stands."""


def side_by_side(looks: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """`nodes/NAME/min`, `mean` and `max` of each figure over the nodes that gave it, by their names.

    `worst` names the node at the bad end of some, where they differ; `nodes/count` is how many were heard.
    """
    line: dict[str, Any] = {"nodes/count": len(looks)}
    worst: dict[str, str] = {}
    for name in sorted({name for look in looks.values() for name in look}):
        found = {host: look[name] for host, look in looks.items() if name in look}
        low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        mean = sum(found.values()) / len(found)
        ends = {"min": found[low], "mean": mean, "max": found[high]}
        line |= {f"nodes/{name}/{end}": round(value, DIGITS) for end, value in ends.items()}
        if name in WORST and found[low] < found[high]:
            worst[name] = high if WORST[name] == HIGH else low
    return line | {"worst": worst}
