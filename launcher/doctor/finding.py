"""One thing that the doctor found, with what follows from it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

COMMAND_TIMEOUT_S = 10


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `follows` says what a person has to know or to do about it, or is empty."""

    topic: str
    ok: bool
    found: str
    follows: str = ""

    def text(self) -> str:
        """The finding in a line."""
        return f"{'ok' if self.ok else '--'}  {self.found}"

    def as_json(self) -> dict[str, Any]:
        """The finding as flat JSON."""
        return asdict(self)


def output_of(argv: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str | None:
    """What a command prints; None where it is not there, fails or takes longer than `timeout_s`."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=True, errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
