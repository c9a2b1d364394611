"""`timing.json`: how long steps and saves of a run take, as measured.

Nodes stop by it before the time limit, submit warns by it of a grace that is too short.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from conf.files import write_atomically

MARGIN_S = 30.0
"""Spared for what comes after the save: ranks that leave, the decision, the queue."""

SHARE = 0.2
"""Spared on top of what was measured: file systems are slower when everybody saves."""

FORGETS = 0.98
"""What counts of the longest pause with each new one: a first step that compiles is forgotten after a hundred."""


@dataclass
class Timing:
    """The longest of late: `pause_s` between two votes on a stop (a step, a batch of an evaluation), `save_s` a save.

    `save_bytes` were written in the last save. 0 is not measured yet.
    """

    pause_s: float = 0.0
    save_s: float = 0.0
    save_bytes: int = 0

    def add_pause(self, seconds: float) -> None:
        """A pause between two votes."""
        self.pause_s = max(seconds, FORGETS * self.pause_s)

    def add_save(self, seconds: float, size: int) -> None:
        """A save, from its begin to where its checkpoint can be relied on."""
        self.save_s, self.save_bytes = max(seconds, self.save_s / 2), size

    @property
    def lead_s(self) -> float | None:
        """Seconds before its end at which a run has to be told to stop; None while no save was measured.

        A word that comes right after a vote is heard two pauses later.
        """
        if self.save_s == 0:
            return None
        return MARGIN_S + (1 + SHARE) * (2 * self.pause_s + self.save_s)


def read_timing(path: Path) -> Timing:
    """What was measured; nothing where there is no file or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Timing)
    except (OSError, msgspec.DecodeError):
        return Timing()


def write_timing(path: Path, timing: Timing) -> None:
    """Write it down, as readable as the folder it lies in."""
    write_atomically(path, msgspec.json.encode(timing) + b"\n", path.parent.stat().st_mode & 0o666)
