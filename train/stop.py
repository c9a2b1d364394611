"""Stopping: rank 0 sees the file STOP, and all ranks agree on it without waiting for each other.

A thread of rank 0 looks for the file, and writes it itself where the job's time is nearly up. In each step every rank
adds the word it knows to a small asynchronous reduction over gloo and reads the result one step later, when it has long
arrived; so all ranks stop at the same step, one after the word was seen at the latest. Evaluation votes between its
batches in the same way. Loading and export, which have nothing to save, vote between their parts and leave.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch
from torch import distributed as dist

from conf.outcome import StopReason, ask_to_stop, read_stop
from train.deadline import Deadline
from train.distributed import World

INTERVAL_S = 0.5
"""How often rank 0 looks for the file."""

REASONS = list(StopReason)


class StopAskedError(Exception):
    """All ranks agreed on a stop where nothing has to be saved: while they load, or export what is saved."""

    def __init__(self, reason: StopReason):
        super().__init__(f"asked to stop: {reason.value}")
        self.reason = reason


class StopVote:
    """All ranks' agreement on a stop. Used as a context manager: the thread lives inside it.

    `deadline` hears how long the votes are apart, and says when the job's time is nearly up.
    """

    def __init__(self, path: Path, world: World, deadline: Deadline):
        self._path = path
        self._world = world
        self.deadline = deadline
        self._voted = 0.0
        self._seen = 0
        self._vote: tuple[dist.Work, torch.Tensor] | None = None
        self._agreed: StopReason | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def __enter__(self) -> StopVote:
        if self._world.first:
            self.deadline.say()
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
        now = time.monotonic()
        if self._voted:
            self.deadline.timing.add_pause(now - self._voted)
        self._voted = now
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
        """What all ranks know at this moment; waits for them; a collective.

        What was done since the last vote counts as no pause: a save, an evaluation's end, an export.
        """
        if self._world.first:
            self._look()
        self._voted = 0.0
        self.asked()
        return self.asked()

    def leave_if_asked(self) -> None:
        """`asked_now` where there is nothing to save.

        Raises:
            StopAskedError: on all ranks.
        """
        reason = self.asked_now()
        if reason is not None:
            raise StopAskedError(reason)

    def _watch(self) -> None:
        while not self._leaving.wait(INTERVAL_S) and not self._seen:
            self._look()

    def _look(self) -> None:
        try:
            reason = read_stop(self._path)
        except OSError:
            return  # a shared file system that is away for a moment: looked at again
        if reason is None and self.deadline.is_near(time.time()):
            reason = StopReason.time_limit
            with suppress(OSError):  # for those who read it; the ranks vote on it in any case
                ask_to_stop(self._path, reason)
        if reason is not None:
            self._seen = REASONS.index(reason) + 1
