"""Reading from folders in which other users write: their files may be pipes, links or huge, their words may be commands
to a terminal."""

from __future__ import annotations

import os
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

Record = TypeVar("Record")


def read_end(path: Path, most: int, owner: str | None = None) -> bytes:
    """The last `most` bytes of a regular file, of the user number `owner` where one is given; follows no link.

    Raises:
        OSError: it is no such file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or owner not in (None, str(found.st_uid)):
            raise OSError(f"{path} is not a regular file{'' if owner is None else ' of its user'}")
        file.seek(max(0, found.st_size - most))
        return file.read(most)


def printable(record: Record) -> Record:
    """A dataclass whose words hold nothing that a terminal would obey."""
    instance: Any = record
    words = {
        field.name: "".join(filter(str.isprintable, value))
        for field in fields(instance)
        if isinstance(value := getattr(instance, field.name), str)
    }
    changed: Record = replace(instance, **words)
    return changed
