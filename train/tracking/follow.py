"""Reading the run folder's files of lines as they grow, a line at a time: those of a long run are large."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from conf.files import read_objects
from conf.layout import RunFolder


class Follower:
    """A file of JSON objects, one a line, that others may still write."""

    def __init__(self, path: Path, at_end: bool = False):
        """`at_end`: what is there already is not read."""
        self._path = path
        self._place = _size(path) if at_end else 0

    def read(self) -> Iterator[dict[str, Any]]:
        """The complete lines since the last one that was read; one that is no object is left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._place += len(line)
                    one = _decode(line)
                    if one is not None:
                        yield one
        except FileNotFoundError:
            return


def first_objects(path: Path, count: int) -> list[dict[str, Any]]:
    """The first lines of a file that may be long; none where it is not there."""
    try:
        with path.open("rb") as file:
            lines = list(islice(file, count))
    except FileNotFoundError:
        return []
    return [one for one in map(_decode, lines) if one is not None]


class Chronicle:
    """Events and metrics of a run in the order of time, as they come; the former have a key `event`."""

    def __init__(self, folder: RunFolder):
        self._events, self._metrics = Follower(folder.events), Follower(folder.metrics)

    def read(self) -> Iterator[dict[str, Any]]:
        """What is new; to be read to its end."""
        return merge(self._events.read(), self._metrics.read(), key=_time)


def _time(line: dict[str, Any]) -> float:
    time = line.get("time")
    return float(time) if isinstance(time, float | int) else 0.0


def sent_at(folder: RunFolder) -> list[float]:
    """When jobs of the run were handed to a scheduler."""
    sent = (line.get("time") for line in read_objects(folder.submissions) if line.get("event") == "sent")
    return [float(time) for time in sent if isinstance(time, float | int)]


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None  # cut short by a kill


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
