"""Who may use the model when: one request at a time, a few that wait, the others sent away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from train.serve.errors import busy

T = TypeVar("T")
Emit = Callable[[str], None]
"""Passes a piece of text on to whoever waits for it; called in the model's thread."""

Work = Callable[[Emit, threading.Event], T]
"""What is done in the model's thread; ends with an error soon after the event is set."""


class Turns:
    """The model's thread, and who waits for it. Belongs to one event loop."""

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._held: set[Turn[Any]] = set()
        self._pool = ThreadPoolExecutor(1, "model")

    def take(self, work: Work[T]) -> Turn[T]:
        """Queue `work`.

        Raises:
            ApiError: too many wait.
        """
        if len(self._held) > self._waiting:
            raise busy(self._waiting)
        turn = Turn[T](asyncio.get_running_loop())
        self._held.add(turn)
        turn.begin(self._pool, work, lambda: self._held.discard(turn))
        return turn

    def close(self) -> None:
        """Let all work end at its next token; those who wait for it are told."""
        for turn in self._held:
            turn.over.set()


class Turn(Generic[T]):
    """One request's turn: its pieces of text while it lasts, its result in the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.over = threading.Event()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._future: Future[T]

    def begin(self, pool: ThreadPoolExecutor, work: Work[T], release: Callable[[], None]) -> None:
        """Hand the work to the model's thread; `release` is called in the loop when it has ended there."""

        def ended(_future: Any) -> None:
            self._tell(release)
            self._tell(lambda: self._pieces.put_nowait(None))

        self._future = pool.submit(work, self._emit, self.over)
        self._future.add_done_callback(ended)

    def _emit(self, text: str) -> None:
        self._tell(lambda: self._pieces.put_nowait(text))

    def _tell(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever listened
            self._loop.call_soon_threadsafe(call)

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it comes. Leaving early ends the work."""
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
        finally:
            self.end()

    async def result(self) -> T:
        """What the work returned. Cancelling ends it."""
        try:
            return await asyncio.wrap_future(self._future)
        finally:
            self.end()

    def end(self) -> None:
        """Let the work end at its next token, or never begin."""
        self.over.set()
        self._future.cancel()
