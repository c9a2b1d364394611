"""A save on its way to the disk: all ranks' writers write, rank 0's publishes, and only then is it a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.checkpoint.jobs import Answer, Discard, Job, Publish, Write
from train.checkpoint.round import Round
from train.checkpoint.storage import WrittenFile
from train.checkpoint.writing import Writer
from train.distributed import World


@dataclass(frozen=True)
class Saved:
    """How a save went: seconds until it was on the disk, bytes over all ranks, seconds that the training stood still
    for it, and why there is no checkpoint, where there is none.
    """

    step: int
    seconds: float
    bytes: int
    error: str | None = None
    stall: float = 0.0


class Flight:
    """The stages of one save: write, then publish; where one of them fails, discard."""

    def __init__(
        self,
        world: World,
        writer: Writer,
        step: int,
        write: Write,
        publish: Callable[[list[list[WrittenFile]]], Publish],
        started: float,
    ):
        """`publish` makes rank 0's job of all ranks' files; `started` is `time.monotonic` before the copying."""
        self.step = step
        self.stall = time.monotonic() - started
        self._world = world
        self._writer = writer
        self._partial: Path = write.partial
        self._publish = publish
        self._started = started
        self._bytes = 0
        self._error: str | None = None
        self._after: Callable[[list[Answer]], Saved | None] = self._written
        self._round = Round(world, writer, write)

    def look(self) -> Saved | None:
        """How the save went, once it is published or given up; a collective that waits for nobody's writer."""
        answers = self._round.look()
        return None if answers is None else self._after(answers)

    def _written(self, answers: list[Answer]) -> Saved | None:
        if self._failed(answers):
            return None
        publish = self._publish([answer.files for answer in answers])
        self._bytes = publish.manifest.size
        self._next(publish, self._published)
        return None

    def _published(self, answers: list[Answer]) -> Saved | None:
        return None if self._failed(answers) else self._ended(answers)

    def _ended(self, answers: list[Answer]) -> Saved | None:
        # Rank 0's clock is that of its writer, which was done before anybody looked.
        now = answers[0].at if self._world.first else time.monotonic()
        return Saved(self.step, now - self._started, self._bytes, self._error, self.stall)

    def _failed(self, answers: Sequence[Answer]) -> bool:
        """Whether a rank failed; then the stage that comes is to discard what was written."""
        error = next((answer.error for answer in answers if answer.error and not answer.given_up), None)
        if error is None:
            return False
        self._error, self._bytes = error, 0
        self._next(Discard(self._partial), self._ended)
        return True

    def _next(self, job: Job, after: Callable[[list[Answer]], Saved | None]) -> None:
        self._round = Round(self._world, self._writer, job if self._world.first else None)
        self._after = after
