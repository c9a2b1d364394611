"""What the pre-flight found on a node: `attempts/N/preflight/nodeK.json`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

HARDWARE = frozenset({"gpus", "ecc", "clock", "shared_folder"})
"""Checks that speak against the node itself, whichever run it was."""

SURROUNDINGS = frozenset({"scratch", "run_disk", "memory", "gpu_used", "shm", "memlock", "open_files", "link"})
"""Checks whose failure may have passed by tomorrow, or depends on the run's own limits."""


@dataclass(frozen=True)
class Check:
    """One thing looked at. `limit` is what would have passed, in words; empty where nothing is judged."""

    name: str
    passed: bool
    found: str
    limit: str = ""

    def in_words(self) -> str:
        """`scratch: 0.2 GiB free at /tmp; has to be at least 1 GiB`."""
        return f"{self.name}: {self.found}" + (f"; {self.limit}" if self.limit and not self.passed else "")


@dataclass(frozen=True)
class Preflight:
    """A node before its ranks start. `host` is its name in the scheduler; `facts` are what was measured, for machines.

    `met` is false where the node was looked at by itself alone, because the head node's pre-flight did not answer.
    """

    node: int
    host: str
    time: float
    seconds: float
    checks: list[Check]
    facts: dict[str, Any] = field(default_factory=dict)
    met: bool = True

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    def in_words(self) -> str:
        """The failed checks in a line."""
        return "; ".join(check.in_words() for check in self.failed)

    def having(self, *checks: Check, **facts: Any) -> Preflight:
        """The same with more checks and facts."""
        return replace(self, checks=[*self.checks, *checks], facts={**self.facts, **facts})
