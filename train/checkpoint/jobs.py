"""What the process that writes checkpoints is asked to do. Rank 0 does the last two itself where nothing runs beside.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from conf.layout import RunFolder
from train.checkpoint.manifest import Manifest, write_manifest
from train.checkpoint.stock import prune
from train.checkpoint.storage import WrittenFile, flush_folder, hashed_file

STATES = "states"
"""The folder in a checkpoint that holds all files but the manifest."""


@dataclass(frozen=True)
class Span:
    """A place in the arena, in bytes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class StagedFile:
    """A file whose content lies in the arena, in this order. `name` is relative to the checkpoint's folder."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Answer:
    """What came of a job: the files written, or why it failed; `given_up` where another's failure was the reason.

    `at` is the host's `time.monotonic` when it was done.
    """

    files: list[WrittenFile] = field(default_factory=list)
    error: str | None = None
    given_up: bool = False
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Write:
    """Write files from the arena, hashed and flushed."""

    partial: Path
    files: tuple[StagedFile, ...]
    descriptor: int
    size: int

    def run(self) -> Answer:
        # Not closed by hand: a failed write's traceback still holds pieces of it, and closing would hide that error.
        content = memoryview(mmap.mmap(self.descriptor, self.size, prot=mmap.PROT_READ))
        return Answer([self._write(file, content) for file in self.files])

    def _write(self, staged: StagedFile, content: memoryview) -> WrittenFile:
        path = self.partial / staged.name
        # Asks the server of a shared file system, whose client may not know yet that rank 0 has made the folder.
        path.parent.mkdir(parents=True, exist_ok=True)
        with hashed_file(path) as file:
            for span in staged.spans:
                file.write(content[span.start : span.end])
        return WrittenFile(staged.name, file.size, file.sha256)


@dataclass(frozen=True)
class Retention:
    """How many checkpoints are kept, and the step whose checkpoint is kept in any case."""

    keep: int
    best: int | None = None


@dataclass(frozen=True)
class Publish:
    """Write the manifest of files that all ranks have written, give the folder its name, remove what is too old."""

    partial: Path
    folder: RunFolder
    manifest: Manifest
    retention: Retention | None = None

    def run(self) -> Answer:
        target = self.folder.checkpoint(self.manifest.step)
        flush_folder(self.partial / STATES)
        write_manifest(self.partial, self.manifest)
        flush_folder(self.partial)
        self.partial.rename(target)
        flush_folder(target.parent)
        if self.retention is not None:
            with contextlib.suppress(OSError):  # the checkpoint is there; what is too old goes with the next one
                prune(self.folder, self.retention.keep, self.retention.best)
        return Answer()


@dataclass(frozen=True)
class Discard:
    """Remove a checkpoint that will not be finished."""

    partial: Path

    def run(self) -> Answer:
        shutil.rmtree(self.partial, ignore_errors=True)
        return Answer()


Job = Write | Publish | Discard
