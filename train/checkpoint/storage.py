"""How files of a checkpoint or an export reach the disk: hashed while they are written, flushed before they count.

`Storage` stands in for DeepSpeed's checkpoint engine. A full disk on one rank must not stop that rank in the middle of
DeepSpeed's collectives, where the others would wait for it, so an error is kept until all ranks are through.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch


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
        rest = view
        while rest:
            # One write moves at most 2 GiB, and less where the disk is nearly full.
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = self.error or error
                raise
        self._digest.update(view)
        self.size += view.nbytes
        return view.nbytes

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


class Storage:
    """Writes and reads the files that DeepSpeed's engine hands over.

    Attributes:
        written: path → size in bytes and SHA-256 of what this rank wrote since `begin`.
        readable: the files that `load` may open.
    """

    def __init__(self) -> None:
        self.written: dict[Path, tuple[int, str]] = {}
        self.readable: frozenset[Path] = frozenset()
        self._error: Exception | None = None

    def begin(self) -> None:
        """Forget the last save."""
        self.written = {}
        self._error = None

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            Path(path).mkdir(parents=True, exist_ok=exist_ok)
        except OSError as error:
            self._error = self._error or error

    def save(self, state_dict: Any, path: str) -> None:
        """Write one object with torch's zip format; an error waits for `raise_error`."""
        if self._error is not None:
            return
        try:
            with hashed_file(Path(path)) as file:
                torch.save(state_dict, cast("BinaryIO", file))
        except Exception as error:
            self._error = error
            return
        self.written[Path(path)] = (file.size, file.sha256)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one object back. Unpickling runs code, so only files that the caller verified are opened.

        Raises:
            PermissionError: the path is not among `readable`.
        """
        if Path(path) not in self.readable:
            raise PermissionError(errno.EPERM, "not a verified file of this checkpoint", path)
        return torch.load(path, map_location=map_location, weights_only=False)

    def raise_error(self) -> None:
        """Raise what `save` kept back."""
        if self._error is not None:
            raise self._error

    def files(self, folder: Path) -> list[WrittenFile]:
        """What was written since `begin`, by name under `folder`."""
        return [WrittenFile(str(path.relative_to(folder)), *entry) for path, entry in sorted(self.written.items())]
