"""How files of a checkpoint or an export reach the disk: hashed while they are written, flushed before they count.

Imports no torch: the process that writes beside the training starts with this alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from train.pulse import PULSE

PIECE = 1 << 20
"""Bytes that are written and then hashed, while the processor's cache still has them."""


@dataclass(frozen=True)
class WrittenFile:
    """A file that this rank wrote, hashed while it was written. `name` is relative to the folder being written."""

    name: str
    size: int
    sha256: str


class HashingFile:
    """A file whose content is hashed as it is appended; remembers the first error of the file system."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        for start in range(0, view.nbytes, PIECE):
            piece = view[start : start + PIECE]
            self._write_all(piece)
            self._digest.update(piece)
            PULSE.beat()
        self.size += view.nbytes
        return view.nbytes

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[self._file.write(rest) :]  # less than asked for where the disk is nearly full
            except OSError as error:
                self.error = self.error or error
                raise

    def flush(self) -> None:
        self._file.flush()


@contextlib.contextmanager
def hashed_file(path: Path) -> Iterator[HashingFile]:
    """Open `path` for writing; at the end it is flushed to the disk.

    Raises:
        OSError: as the file system says, also where torch hides it in a RuntimeError of its own.
    """
    # Unbuffered: torch and our own writers append large pieces, and closing must not be where a full disk shows.
    with path.open("wb", buffering=0) as raw:
        file = HashingFile(cast("BinaryIO", raw))
        try:
            yield file
        except Exception:
            if file.error is not None:
                raise file.error from None
            raise
        os.fsync(raw.fileno())


def sha256_of(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, read from the disk."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size = 0
        buffer = memoryview(bytearray(1 << 20))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
    return size, digest.hexdigest()


def flush_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
