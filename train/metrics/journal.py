"""`metrics.jsonl` and `events.jsonl`: one JSON object a line, each written with a single append.

Rank 0 writes; on other ranks a journal is silent. Nothing here waits for a device or for another rank.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from conf.layout import RunFolder
from train.pulse import PULSE

PHASE_INTERVAL_S = 1.0


class Journal:
    """Writes the metrics and events of one attempt."""

    def __init__(self, folder: RunFolder, attempt: int, active: bool = True):
        """`active` is false on every rank but 0."""
        self._folder = folder
        self._attempt = attempt
        self._active = active
        self._last_phase = ("", 0.0)

    def metrics(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append a line of `metrics.jsonl`; values that are not finite become the strings nan, inf and -inf."""
        line = {"step": step, "attempt": self._attempt, "time": round(time.time(), 3)}
        self._append(self._folder.metrics, line | {name: _plain(value) for name, value in values.items()})

    def event(self, event: str, **values: Any) -> None:
        """Append a line of `events.jsonl`."""
        line = {"time": round(time.time(), 3), "attempt": self._attempt, "event": event}
        self._append(self._folder.events, line | {name: _plain(value) for name, value in values.items()})

    def warning(self, text: str) -> None:
        """Append a warning to `events.jsonl`."""
        self.event("warning", text=text)

    def phase(self, phase: str, done: int | None = None, total: int | None = None, unit: str | None = None) -> None:
        """Say what the run is doing and how far it is: its start, its end, and at most once a second between.

        Each call is a sign of progress, on every rank.
        """
        PULSE.enter(phase)
        now = time.monotonic()
        name, last = self._last_phase
        if phase == name and done != total and now - last < PHASE_INTERVAL_S:
            return
        self._last_phase = (phase, now)
        amounts = {"done": done, "total": total, "unit": unit}
        self.event("phase", phase=phase, **{key: value for key, value in amounts.items() if value is not None})

    def _append(self, path: Path, line: Mapping[str, Any]) -> None:
        if self._active:
            append_line(path, line)


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON object in a single write; a new file is as readable as its folder (0700 gives 0600)."""
    mode = path.parent.stat().st_mode & 0o666
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(descriptor, mode)
    except FileExistsError:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """A value that JSON can carry: floats that are not finite as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
