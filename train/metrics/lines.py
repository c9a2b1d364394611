"""A file of lines that goes on when the disk is full: what does not fit waits in memory until there is room again."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path

MOST_WAITING = 100_000
"""Lines kept while nothing can be written; of more than that the oldest are lost."""


class Lines:
    """Appends lines to `path`, each with a single write; a new file is as readable as its folder (0700 gives 0600)."""

    def __init__(self, path: Path):
        self._path = path
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._reason = ""
        self._since: float | None = None
        self._opened = False
        self._lock = threading.Lock()

    def append(self, line: bytes) -> str | None:
        """Write a line, after those that still wait. Once they are written, says in words that they had to wait."""
        with self._lock:
            self._waiting.append(line + b"\n")
            while len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self._lost += 1
            try:
                self._write()
            except OSError as error:
                self._since = self._since or time.monotonic()
                self._reason = error.strerror or str(error)
                return None
            return self._over()

    def _write(self) -> None:
        descriptor = self._open()
        try:
            if not self._opened and self._cut_short():
                os.write(descriptor, b"\n")
            self._opened = True
            while self._waiting:
                line = self._waiting.popleft()
                written = 0
                try:
                    written = os.write(descriptor, line)
                finally:
                    if written < len(line):  # the disk is full in the middle of it
                        self._waiting.appendleft(line[written:])
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        mode = self._path.parent.stat().st_mode & 0o666
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.fchmod(descriptor, mode)
        return descriptor

    def _cut_short(self) -> bool:
        """Whether an attempt before this one was killed in the middle of a line."""
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read(1) not in (b"", b"\n")

    def _over(self) -> str | None:
        if self._since is None:
            return None
        seconds, lost = time.monotonic() - self._since, self._lost
        self._since, self._lost = None, 0
        kept = f"{lost} of them are lost" if lost else "all are there now"
        return f"lines of {self._path.name} waited {seconds:.0f} s for the disk ({self._reason}); {kept}"
