"""Which events of a run are worth a message to a person, and which were sent already."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from conf.files import read_objects
from conf.outcome import Cause, State
from conf.schema import AlertKind
from train.metrics.lines import Lines

Level = Literal["INFO", "WARN", "ERROR"]
LONGEST_TITLE = 63
"""Letters of a title that W&B takes."""
NO_PROGRESS = "no_progress"


@dataclass(frozen=True)
class Alert:
    """A message. `key` names the event that it is about, the same for whoever reads it."""

    kind: AlertKind
    level: Level
    text: str
    key: str

    def title(self, run: str) -> str:
        """`demo-1a2b3c4d: hang`; one message a title and minute is sent."""
        words = f": {self.kind.value.replace('_', ' ')}"
        return run[: LONGEST_TITLE - len(words)] + words


class Herald:
    """Hears the events of a run in their order and says which deserve a message."""

    def __init__(self) -> None:
        self._told: set[int] = set()  # attempts whose failure was told already
        self._ended = ""

    def hear(self, event: Mapping[str, Any]) -> Alert | None:
        """The message that an event deserves."""
        found = self._judge(event)
        if found is None:
            return None
        kind, level, text = found
        return Alert(kind, level, text, f"{event.get('time')}:{event.get('attempt')}:{event.get('event')}")

    def _judge(self, event: Mapping[str, Any]) -> tuple[AlertKind, Level, str] | None:
        attempt, name = int(event.get("attempt") or 0), event.get("event")
        text = str(event.get("text") or event.get("reason") or event.get("message") or "")
        if name == "hang":
            self._told.add(attempt)
            return AlertKind.hang, "ERROR", f"attempt {attempt}: {text}"
        if name == "failure" and event.get("cause") == Cause.nan.value:
            self._told.add(attempt)
            return AlertKind.non_finite, "ERROR", text
        if name == "warning":
            return _of_warning(str(event.get("about", "")), text)
        if name == "attempt_ended":
            return self._of_end(attempt, str(event.get("state", "")), text)
        if name == "decision" and text.startswith(NO_PROGRESS):
            return AlertKind.no_progress, "ERROR", text
        if name == "attempt_started" and attempt > 0:
            hosts = ", ".join(str(host) for host in event.get("hosts") or [])
            why = f"; before: {self._ended}" if self._ended else ""
            return AlertKind.restart, "INFO", f"attempt {attempt} has started on {hosts}{why}"
        return None

    def _of_end(self, attempt: int, state: str, reason: str) -> tuple[AlertKind, Level, str] | None:
        self._ended = f"{state}: {reason}"
        if state == State.time_limit.value:
            return AlertKind.time_limit, "INFO", f"attempt {attempt} ended at its time limit: {reason}"
        if state == State.failed.value and attempt not in self._told and not reason.startswith(NO_PROGRESS):
            return AlertKind.failed, "ERROR", f"attempt {attempt}: {reason}"
        return None


def _of_warning(about: str, text: str) -> tuple[AlertKind, Level, str] | None:
    if about == "non_finite":
        return AlertKind.non_finite, "WARN", text
    if about == "straggler":
        return AlertKind.straggler, "WARN", text
    return None


class Sent:
    """The messages that were sent, in a file of the run: whoever mirrors it next sends none of them again."""

    def __init__(self, path: Path):
        self._path = path
        self._keys = {str(line.get("key")) for line in read_objects(path)}
        self._lines = Lines(path)

    def __contains__(self, alert: Alert) -> bool:
        return alert.key in self._keys

    def add(self, alert: Alert) -> None:
        """Remember a message; where the folder may not be written, for this process only."""
        self._keys.add(alert.key)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=self._path.parent.parent.stat().st_mode & 0o777, exist_ok=True)
            self._lines.append(msgspec.json.encode({"key": alert.key, "kind": alert.kind.value}))
