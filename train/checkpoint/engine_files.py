"""The files that DeepSpeed's engine hands over and asks for: this stands in for its checkpoint engine.

A full disk on one rank must not stop that rank in the middle of DeepSpeed's collectives, where the others would wait
for it, so an error is kept until all ranks are through.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from train.checkpoint.storage import WrittenFile, hashed_file

Take = Callable[[Any, Path], None]
"""Takes an object and the path under which it is to be read back: writes it, or copies it to be written."""


def write_object(content: Any, file: Any) -> None:
    """`torch.save` without checksums of its own: nobody reads them, and the manifest has better ones."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, cast("BinaryIO", file))
    finally:
        torch.serialization.set_crc32_options(before)


class WrittenNow:
    """Takes objects by writing them at once. `files` are named relative to `root`."""

    def __init__(self, root: Path):
        self.files: list[WrittenFile] = []
        self._root = root

    def take(self, content: Any, path: Path) -> None:
        with hashed_file(path) as file:
            write_object(content, file)
        self.files.append(WrittenFile(str(path.relative_to(self._root)), file.size, file.sha256))


class EngineFiles:
    """What DeepSpeed's engine calls to save and load.

    Attributes:
        readable: the files that `load` may open.
    """

    def __init__(self) -> None:
        self.readable: frozenset[Path] = frozenset()
        self._take: Take | None = None
        self._error: Exception | None = None

    def begin(self, take: Take) -> None:
        """Give the objects of the next save to `take`."""
        self._take = take
        self._error = None

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        try:
            Path(path).mkdir(parents=True, exist_ok=exist_ok)
        except OSError as error:
            self._error = self._error or error

    def save(self, state_dict: Any, path: str) -> None:
        """Hand on one object; an error waits for `end`."""
        if self._error is not None or self._take is None:
            return
        try:
            self._take(state_dict, Path(path))
        except Exception as error:
            self._error = error

    def end(self) -> None:
        """Raise what `save` kept back."""
        self._take = None
        if self._error is not None:
            raise self._error

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one object back. Unpickling runs code, so only files that the caller verified are opened.

        Raises:
            PermissionError: the path is not among `readable`.
        """
        if Path(path) not in self.readable:
            raise PermissionError(errno.EPERM, "not a verified file of this checkpoint", path)
        return torch.load(path, map_location=map_location, weights_only=False)
