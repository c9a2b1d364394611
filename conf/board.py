"""What a dashboard is to show: runs of a project, by what they measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Board:
    """A dashboard. `runs` are their ids on W&B, `group` is a sweep's; with neither it is about all runs of the project.

    `metrics` are the names that the runs have logged: what none of them has gets no panel. `parameters` are the keys
    that a sweep varies, `metric` is what it is judged by, `greater` whether more of that is better. `kept` is the file
    that remembers where the dashboard was saved, so that saving it again changes it instead of making another.
    """

    title: str
    project: str
    entity: Optional[str] = None
    runs: list[str] = field(default_factory=list)
    group: Optional[str] = None
    metrics: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    metric: str = "train/loss"
    greater: bool = False
    kept: Optional[str] = None
