"""How all ranks learn that their writers have answered, and what, while the training goes on.

Each look reads an exchange that was begun at the last one and begins the next, as the vote on STOP does, so nobody
waits for a writer. Looks are collectives; their number is the same on all ranks.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor
from torch import distributed as dist

from train.checkpoint.jobs import Answer, Job
from train.checkpoint.writing import Writer
from train.distributed import World


class Round:
    """One job of each rank that has one, until all ranks know all answers."""

    def __init__(self, world: World, writer: Writer, job: Job | None):
        """Send this rank's job; a rank without one has answered already."""
        self._world = world
        self._writer = writer
        self._own = Answer() if job is None else None
        self._vote: tuple[dist.Work, Tensor] | None = None
        self._answers: tuple[dist.Work, list[Tensor]] | None = None
        if job is not None:
            writer.send(job)

    def look(self) -> list[Answer] | None:
        """The answers in order of ranks, once all know them; a collective.

        As soon as one rank has failed, the writers that are still busy are ended: nothing will come of their work.
        """
        if self._own is None:
            self._own = self._writer.answer()
        if self._answers is not None:
            work, received = self._answers
            work.wait()
            return [msgspec.json.decode(tensor.numpy().tobytes().rstrip(b"\0"), type=Answer) for tensor in received]
        if self._vote is not None:
            work, told = self._vote
            work.wait()
            busy, failed, length = (int(value) for value in told)
            if failed and self._own is None:
                self._writer.kill()
                self._own = Answer(error="given up", given_up=True)
            if not busy:
                self._gather(length)
                return None
        self._begin_vote()
        return None

    def _begin_vote(self) -> None:
        own = self._own
        values = (1, 0, 0) if own is None else (0, int(own.error is not None), len(msgspec.json.encode(own)))
        told = torch.tensor(values)
        work = dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self._world.control, async_op=True)
        self._vote = (work, told)

    def _gather(self, length: int) -> None:
        content = msgspec.json.encode(self._own).ljust(length, b"\0")
        own = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        received = [torch.empty_like(own) for _ in range(self._world.size)]
        self._answers = (dist.all_gather(received, own, group=self._world.control, async_op=True), received)
