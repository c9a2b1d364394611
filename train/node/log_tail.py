"""The end of a rank's log: what it printed before its stacks and its error."""

from __future__ import annotations

import os
from pathlib import Path

STACKS = "stacks of all threads of the failed rank:"
"""What a failing rank writes into its log before its stacks and its error."""
LOG_LINES = 40
TAIL_BYTES = 64 * 1024


def read_tail(path: Path, lines: int = LOG_LINES) -> list[str]:
    """The last lines of a rank's log before its stacks, without reading all of it; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.partition(STACKS)[0].splitlines()[-lines:]
