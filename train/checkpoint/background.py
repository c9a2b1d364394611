"""Saves beside the training: it stands still while its tensors are copied, and another process writes the copies."""

from __future__ import annotations

import time
from typing import Any

from conf.layout import RunFolder
from train.checkpoint import checkpoint
from train.checkpoint.arena import Arena, NoRoomError
from train.checkpoint.flight import Flight, Saved
from train.checkpoint.jobs import Publish, Retention, Write
from train.checkpoint.staging import Staging
from train.checkpoint.storage import WrittenFile
from train.checkpoint.writing import Writer
from train.distributed import World, attempted
from train.engine import Engine

LOOK_S = 0.01
"""How often ranks that wait for a save look."""


class Background:
    """At most one save in flight. Memory and writer are kept from save to save; made when they are first needed."""

    def __init__(self, world: World, folder: RunFolder, ranks_on_node: int = 1):
        self._world = world
        self._folder = folder
        self._ranks = ranks_on_node
        self._arena: Arena | None = None
        self._writer: Writer | None = None
        self._flight: Flight | None = None

    @property
    def in_flight(self) -> int | None:
        """The step that is being saved, if one is."""
        return None if self._flight is None else self._flight.step

    @property
    def writer_pid(self) -> int | None:
        """The process that writes, where it runs."""
        return None if self._writer is None else self._writer.pid

    def prepare(self, engine: Engine) -> None:
        """Take the memory and start the writer beside the training, before the first save; once."""
        if self._arena is None:
            arena, _ = self._made()
            arena.prepare(engine.saved_bytes())
            attempted(self.start_writer)  # where that fails, the save says so

    def start_writer(self) -> None:
        """Start the process unless it runs.

        Raises:
            OSError: no process can be made.
        """
        _, writer = self._made()
        writer.start()

    def begin(
        self, engine: Engine, step: int, state: dict[str, Any], retention: Retention | None = None
    ) -> Saved | None:
        """Copy what is saved and let the writers write it; a collective. Nothing may be in flight.

        Returns None where that has begun; else how it ended: it failed, or the step is saved already.

        Raises:
            NoRoomError: on all ranks, where one has no memory for the copy.
            RuntimeError: a rank failed for another reason than its file system.
        """
        started = time.monotonic()
        if checkpoint.is_saved(self._world, self._folder.checkpoint(step)):
            return Saved(step, 0.0, 0)
        arena, writer = self._made()
        partial, error = checkpoint.new_partial(self._world, self._folder.checkpoint(step))
        staging = Staging(arena, partial)
        if error is None:
            error = checkpoint.hand_over(engine, self._world, partial, state, staging.take)
        if isinstance(error, NoRoomError):
            raise error
        if error is not None:
            return checkpoint.given_up(self._world, partial, step, error, started)

        def publish(written: list[list[WrittenFile]]) -> Publish:
            manifest = checkpoint.manifest_of(engine, step, state, written)
            return Publish(partial, self._folder, manifest, retention)

        write = Write(partial, tuple(staging.files), arena.descriptor, arena.size)
        self._flight = Flight(self._world, writer, step, write, publish, started)
        return None

    def look(self) -> Saved | None:
        """How the save in flight went, once that is known; a collective that does not wait for it."""
        if self._flight is None:
            return None
        saved = self._flight.look()
        if saved is not None:
            self._flight = None
        return saved

    def wait(self) -> Saved | None:
        """How the save in flight went; None where none is; a collective."""
        saved = None
        while self._flight is not None:
            saved = self.look()
            if saved is None:
                time.sleep(LOOK_S)
        return saved

    def close(self) -> None:
        """End the writer, whatever it does, and give the memory back."""
        self._flight = None
        if self._writer is not None:
            self._writer.kill()
            self._writer = None
        if self._arena is not None:
            self._arena.close()
            self._arena = None

    def _made(self) -> tuple[Arena, Writer]:
        if self._arena is None or self._writer is None:
            self._arena = Arena(self._world.device, self._ranks)
            self._writer = Writer(self._folder.path, self._arena.descriptor)
        return self._arena, self._writer
