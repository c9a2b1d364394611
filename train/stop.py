"""Stopping: rank 0 sees the file STOP, and all ranks agree on it without waiting for each other.

A thread of rank 0 looks for the file. In each step every rank adds the word it knows to a small asynchronous reduction
over gloo and reads the result one step later, when it has long arrived; so all ranks stop at the same step, one after
the word was seen at the latest. Evaluation votes between its batches in the same way.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

import torch
from torch import distributed as dist

from conf.outcome import StopReason, read_stop
from train.distributed import World

INTERVAL_S = 0.5
"""How often rank 0 looks for the file."""

REASONS = list(StopReason)


class StopVote:
    """All ranks' agreement on a stop. Used as a context manager: the thread lives inside it."""

    def __init__(self, path: Path, world: World):
        self._path = path
        self._world = world
        self._seen = 0
        self._vote: tuple[dist.Work, torch.Tensor] | None = None
        self._agreed: StopReason | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def __enter__(self) -> StopVote:
        if self._world.first:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join()

    def asked(self) -> StopReason | None:
        """What all ranks agreed on by the vote of the last call, and start the next vote; a collective."""
        if self._vote is not None:
            work, flag = self._vote
            work.wait()
            if self._agreed is None and int(flag) > 0:
                self._agreed = REASONS[int(flag) - 1]
        flag = torch.tensor(self._seen)
        work = dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._world.control, async_op=True)
        self._vote = (work, flag)
        return self._agreed

    def asked_now(self) -> StopReason | None:
        """What all ranks know at this moment; waits for them; a collective."""
        if self._world.first:
            self._look()
        self.asked()
        return self.asked()

    def _watch(self) -> None:
        while not self._leaving.wait(INTERVAL_S) and not self._seen:
            self._look()

    def _look(self) -> None:
        try:
            reason = read_stop(self._path)
        except OSError:
            return  # a shared file system that is away for a moment: looked at again
        if reason is not None:
            self._seen = REASONS.index(reason) + 1
