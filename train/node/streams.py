"""Standard output and error of ranks and agents: a full disk under a log is no reason for whoever prints to fail."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class PatientLog(io.RawIOBase):
    """Writes to a descriptor; what the file system refuses is lost."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        try:
            return os.write(self._descriptor, content)
        except OSError:
            return len(content)


def use_patient_streams() -> None:
    """Let everything that is printed from now on go through `PatientLog`, a line at a time."""
    flush_streams()
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(PatientLog(number)), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        for number in (1, 2)
    )


def flush_streams() -> None:
    """Write out what Python has buffered; a full disk is no reason to fail here."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
