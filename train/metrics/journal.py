"""`metrics.jsonl` and `events.jsonl`: one JSON object a line, each written with a single append.

Rank 0 writes; on other ranks a journal is silent. Nothing here waits for a device or for another rank, nor fails where
the disk is full.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from conf.files import read_objects
from conf.layout import RunFolder
from train.metrics.lines import Lines
from train.pulse import PULSE

PHASE_INTERVAL_S = 1.0


class Journal:
    """Writes the metrics and events of one attempt."""

    def __init__(self, folder: RunFolder, attempt: int, active: bool = True):
        """`active` is false on every rank but 0."""
        self._metrics, self._events = Lines(folder.metrics), Lines(folder.events)
        self._attempt = attempt
        self._active = active
        self._last_phase: tuple[str, str | None, float] = ("", None, 0.0)

    def metrics(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append a line of `metrics.jsonl`; values that are not finite become the strings nan, inf and -inf."""
        line = {"step": step, "attempt": self._attempt, "time": round(time.time(), 3)}
        self._append(self._metrics, line | {name: _plain(value) for name, value in values.items()})

    def event(self, event: str, **values: Any) -> None:
        """Append a line of `events.jsonl`."""
        line = {"time": round(time.time(), 3), "attempt": self._attempt, "event": event}
        self._append(self._events, line | {name: _plain(value) for name, value in values.items()})

    def warning(self, text: str) -> None:
        """Append a warning to `events.jsonl`."""
        self.event("warning", text=text)

    def phase(
        self,
        phase: str,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
        text: str | None = None,
    ) -> None:
        """Say what the run is doing and how far it is: its start, its end, and at most once a second between.

        `text` is which part of the phase it is. Each call is a sign of progress, on every rank.
        """
        PULSE.enter(phase)
        now = time.monotonic()
        name, part, last = self._last_phase
        counts = done is not None and done != total
        if (phase, text) == (name, part) and counts and now - last < PHASE_INTERVAL_S:
            return
        self._last_phase = (phase, text, now)
        amounts = {"done": done, "total": total, "unit": unit, "text": text}
        self.event("phase", phase=phase, **{key: value for key, value in amounts.items() if value is not None})

    def _append(self, file: Lines, line: Mapping[str, Any]) -> None:
        if not self._active:
            return
        waited = file.append(msgspec.json.encode(line))
        if waited is not None:
            self.warning(waited)


def read_events(folder: RunFolder) -> list[dict[str, Any]]:
    """The events of all attempts; a line that a kill cut short is left out."""
    return read_objects(folder.events)


def _plain(value: Any) -> Any:
    """A value that JSON can carry: floats that are not finite as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
