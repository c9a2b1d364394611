"""The signs of progress that a process gives: in which phase it is, at which step, and that it still moves.

A rank's pulse lies in a small file of the node's scratch folder, mapped into memory by the rank and by its agent, so
that a sign costs about a microsecond and never waits for a disk, a lock or a peer. Where nobody has attached a file
(tests, verbs without an agent) the signs go nowhere.

Signs are given in few places: `Journal.phase`, the loop after each micro batch and step, and files that are written.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

BEATS = struct.Struct("<Q")
STEP = struct.Struct("<qQd")
PHASE = struct.Struct("<16s")
STEP_AT = BEATS.size
PHASE_AT = STEP_AT + STEP.size
BESIDE_AT = PHASE_AT + PHASE.size
SIZE = BESIDE_AT + BEATS.size
REMEMBERED = 32
"""Steps whose slowest says how long one may take."""
TRAIN, SCRIPT = "train", "script"


@dataclass(frozen=True)
class Signs:
    """What a pulse says. `made` counts the steps of this process, `slowest_s` is the longest of the last of them."""

    beats: int = 0
    step: int = 0
    made: int = 0
    slowest_s: float = 0.0
    phase: str = ""


def pulse_file(scratch: Path, local_rank: int) -> Path:
    """Where a rank's pulse lies on its node."""
    return scratch / f"pulse-{local_rank}"


def make_pulse(path: Path, phase: str) -> None:
    """A pulse that has not moved yet, for the process that will attach to it."""
    content = bytearray(SIZE)
    PHASE.pack_into(content, PHASE_AT, phase.encode())
    path.write_bytes(content)


def read_pulse(path: Path) -> Signs:
    """The signs at this moment.

    Raises:
        OSError: there is no such file.
        struct.error: it is cut short.
    """
    content = path.read_bytes()
    (phase,) = PHASE.unpack_from(content, PHASE_AT)
    (beats,), (beside,) = (BEATS.unpack_from(content, place) for place in (0, BESIDE_AT))
    step, made, slowest_s = STEP.unpack_from(content, STEP_AT)
    return Signs(beats + beside, step, made, slowest_s, phase.rstrip(b"\0").decode(errors="replace"))


class Pulse:
    """The signs of one process. A sign from another thread may be lost, never harmful."""

    def __init__(self) -> None:
        self._slot: bytearray | mmap.mmap = bytearray(SIZE)
        self._beats = self._beats_at = 0
        self._made = 0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._began: float | None = None
        self.phase = ""

    def attach(self, path: Path, beside: bool = False) -> None:
        """Give signs into the file from here on; without it nothing changes.

        `beside`: as the process that writes the rank's checkpoints, whose beats count as the rank's.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            self._slot = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._beats_at = BESIDE_AT if beside else 0

    def beat(self) -> None:
        """Something was done: a batch, a file, a document."""
        self._beats += 1
        BEATS.pack_into(self._slot, self._beats_at, self._beats)

    def enter(self, phase: str) -> None:
        """Be in a phase, also where it is the same as before."""
        if phase != self.phase:
            self.phase = phase
            PHASE.pack_into(self._slot, PHASE_AT, phase.encode()[: PHASE.size])
            self._began = time.monotonic() if phase == TRAIN else None  # an evaluation between steps is no slow step
        self.beat()

    def step(self, number: int) -> None:
        """A training step was made."""
        now = time.monotonic()
        if self._began is not None and self._made:  # the first one compiles and allocates
            self._seconds.append(now - self._began)
        self._began = now
        self._made += 1
        STEP.pack_into(self._slot, STEP_AT, number, self._made, max(self._seconds, default=0.0))
        self.beat()


PULSE = Pulse()
"""This process's own."""
