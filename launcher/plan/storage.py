"""How fast a job reads and writes what lies in shared folders. Pure."""

from __future__ import annotations

from launcher.facts.facts import Facts

ASSUMED_SPEED = 1e9
"""Bytes a second where nothing was measured: what one client of a slow shared file system reaches."""

LEAST_MEASURED = 1 << 28
"""Bytes from which on a run's save tells of the file system; smaller ones tell of its latency."""


def speed_of(facts: Facts) -> tuple[float, str]:
    """Bytes a second by the largest save that was measured, and where that comes from."""
    large = [save for save in facts.saves if save.size >= LEAST_MEASURED]
    best = max(large, key=lambda save: save.size, default=None)
    if best is None:
        return ASSUMED_SPEED, "assumed, none was measured yet"
    return best.size / best.seconds, f"measured in {best.run_id}"
