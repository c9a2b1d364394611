"""How W&B shows the points of a sweep: one group, each point called by the overrides that are its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conf.schema import RunConfig

LONGEST = 128
"""Letters of a name that W&B takes."""


def tracked(config: RunConfig, sweep: str, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a point of the sweep with that id; what a person gave stays."""
    tracking = config.tracking
    name = tracking.run_name or " ".join(word.lstrip("+") for word in overrides)[:LONGEST] or None
    return replace(config, tracking=replace(tracking, group=tracking.group or sweep, run_name=name))
