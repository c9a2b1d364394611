"""How long a rank may stand still in the phase it is in. Pure."""

from __future__ import annotations

from dataclasses import asdict

from conf.schema import HealthConfig
from train.pulse import TRAIN, Signs

OTHER_NAMES = {"answer": "evaluate"}
"""Phases that have the limit of another."""


def limit_s(signs: Signs, health: HealthConfig) -> float:
    """Seconds without a sign of progress after which the phase counts as hanging.

    A step may take long where steps are slow; the first one compiles and allocates. A phase without a limit of its own
    has the longest one.
    """
    limits: dict[str, float] = asdict(health.limits_s)
    if signs.phase == TRAIN:
        if signs.made == 0:
            return max(limits["first_step"], limits["train"])
        return max(limits["train"], health.step_factor * signs.slowest_s)
    return limits.get(OTHER_NAMES.get(signs.phase, signs.phase), max(limits.values()))


def collective_timeout_s(health: HealthConfig) -> float:
    """Longest that a rank waits in one collective: as given, else as long as any phase may stand still."""
    return health.collective_timeout_s or max(asdict(health.limits_s).values())
