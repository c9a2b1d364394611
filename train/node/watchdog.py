"""Notices that an attempt stands still, from the pulses of its ranks.

One rank that hangs makes all ranks wait, and one that works (rank 0 writing an export) may let all others wait for
long. So an attempt hangs when no rank of any node has moved for longer than its phase allows. Each agent tells the
others through their store how its node stands; nothing is read from the shared folder. Time in which the agent itself
did not run (a suspended job) does not count.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from conf.schema import HealthConfig
from train.metrics.journal import Journal
from train.node.inquest import Board, Inquest, Place
from train.node.node import Node
from train.node.patient import Clock, Patient
from train.node.recorder import pipe_of
from train.node.stacks import stacks_file
from train.node.watch import Watch
from train.pulse import make_pulse, pulse_file

FROZEN_S = 15.0
"""After so long without a new word a node's agent counts as hanging too."""
QUIET, HANGS = "quiet", "hangs"


@dataclass(frozen=True)
class Word:
    """A node's word to the others: a number that moves on, and seconds until its ranks count as hanging.

    None: it has no ranks any more, and keeps nobody from hanging.
    """

    number: int
    left_s: float | None


class Watchdog:
    """Watches the ranks of a node, with the agents of the others."""

    def __init__(
        self,
        health: HealthConfig,
        place: Place,
        board: Board,
        journal: Journal,
        living: Callable[[], Mapping[int, int]],
    ):
        """`living` gives the process ids of the ranks that run, by local rank."""
        self._health = health
        self._place = place
        self._board = board
        self._journal = journal
        self._living = living
        self._patients: dict[int, Patient] = {}
        self._noted: dict[int, int] = {}
        self._heard: dict[int, tuple[str, float]] = {}
        self._clock = Clock()
        self._words = 0

    def look(self) -> None:
        """Look at the ranks, at most once a second.

        Raises:
            HangError: the attempt hangs; what all nodes found is in the attempt.
        """
        passed_s = self._clock.passed()
        if passed_s is None:
            return
        living = self._living()
        for local_rank in living:
            self._note_stacks(local_rank)
        if not self._health.watchdog:
            return
        left_s = max((self._left_s(local_rank, passed_s) for local_rank in living), default=None)
        self._tell(left_s)
        if left_s is not None and (self._board.declared(HANGS) or (left_s < 0 and self._all_hang())):
            self._board.declare(HANGS)
            gone = {node for node, text in self._board.read(QUIET).items() if _read(text).left_s is None}
            raise Inquest(self._place, self._board, self._journal, living, self._patients).hold(gone)

    def leave(self) -> None:
        """Tell the others that this node has no ranks any more."""
        self._tell(None)

    def _left_s(self, local_rank: int, passed_s: float) -> float:
        """Seconds that a rank has left."""
        if local_rank not in self._patients:
            place = self._place
            log = place.attempt.rank_log(place.node, place.first_rank + local_rank)
            self._patients[local_rank] = Patient(place.scratch, local_rank, self._health, log)
        return self._patients[local_rank].examine(passed_s)

    def _tell(self, left_s: float | None) -> None:
        self._words += 1
        self._board.post(QUIET, msgspec.json.encode(Word(self._words, left_s)).decode())

    def _all_hang(self) -> bool:
        """Whether every other node has nothing left either, or is frozen."""
        now = time.monotonic()
        words = self._board.read(QUIET)
        hang = True
        for node in set(range(len(self._place.hosts))) - {self._place.node}:
            text = words.get(node, "")
            before, since = self._heard.get(node, ("", now))
            self._heard[node] = (text, since if text == before else now)
            left_s = _read(text).left_s if text else 0.0
            frozen = now - self._heard[node][1] > FROZEN_S
            hang &= left_s is None or left_s < 0 or frozen
        return hang

    def _note_stacks(self, local_rank: int) -> None:
        """Keep what a rank wrote because a person sent it SIGUSR1."""
        file = stacks_file(self._place.scratch, local_rank)
        with contextlib.suppress(OSError):
            size = file.stat().st_size
            if size != self._noted.get(local_rank, 0):
                rank = self._place.first_rank + local_rank
                self._place.attempt.stack(self._place.node, rank).write_bytes(file.read_bytes())
                self._noted[local_rank] = size


def guarded(node: Node, board: Board, first_rank: int, watch: Watch) -> Watchdog:
    """The watchdog of a node's ranks, which run."""
    place = Place(node.attempt, node.environment.scratch, node.environment.node, node.hosts, first_rank)
    journal = Journal(node.folder, node.environment.attempt)
    return Watchdog(node.plan.config.health, place, board, journal, watch.living)


def prepare_scratch(scratch: Path, ranks: int) -> None:
    """What the ranks of a node attach to in their first moments: a pulse and a pipe for each."""
    for local_rank in range(ranks):
        make_pulse(pulse_file(scratch, local_rank), "load")
        pipe_of(scratch, local_rank).unlink(missing_ok=True)
        os.mkfifo(pipe_of(scratch, local_rank), 0o600)


def _read(text: str) -> Word:
    return msgspec.json.decode(text, type=Word)
