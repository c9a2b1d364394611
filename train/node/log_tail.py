"""The end of a rank's log: what it printed before its stacks and its error, and the traceback it ends with."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
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


TRACEBACK = "Traceback (most recent call last):"
LEFT_RUNNING = "terminate called without an active exception"
"""What C++ aborts with where a process leaves while a thread of it still runs, as gloo's may after an error."""
_RANK_PREFIX = re.compile(r"^\[rank\d+\]: ?")


def last_traceback(lines: Sequence[str]) -> list[str]:
    """The last traceback of a log with its error, without the rank that torch writes before each line; empty: none."""
    plain = [_RANK_PREFIX.sub("", line) for line in lines]
    begin = max((at for at, line in enumerate(plain) if line.startswith(TRACEBACK)), default=None)
    if begin is None:
        return []
    body = [at for at in range(begin + 1, len(plain)) if plain[at].startswith(" ")]
    return plain[begin : (body[-1] if body else begin) + 2]


def printed_error(lines: Sequence[str], exit_status: int | None, signal_number: int | None) -> list[str]:
    """The traceback by which a program ended whose errors nobody catches, also where it aborted as it left."""
    if exit_status:
        return last_traceback(lines)
    if signal_number == signal.SIGABRT and LEFT_RUNNING in lines:
        return last_traceback(lines[: lines.index(LEFT_RUNNING)])
    return []
