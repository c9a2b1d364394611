"""One process and its signs of progress, as its agent knows them; and the data step, which is watched alone."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

from conf.outcome import Cause, Failure
from conf.schema import HealthConfig
from train.node.hang import Stand, as_traceback, describe
from train.node.limits import limit_s
from train.node.stacks import ask_all
from train.pulse import SCRIPT, Signs, make_pulse, pulse_file, read_pulse

LOOK_S = 1.0
DATA_STEP = -1
"""The data step's number where ranks have theirs."""


class Patient:
    """A process: its last signs, and for how long there was no new one.

    A person's own program gives no signs but what it prints into its `log`.
    """

    def __init__(self, scratch: Path, local_rank: int, health: HealthConfig, log: Path | None = None):
        self._file = pulse_file(scratch, local_rank)
        self._log = log
        self._health = health
        self.signs = Signs()
        self.quiet_s = 0.0

    @property
    def limit_s(self) -> float:
        return limit_s(self.signs, self._health)

    def examine(self, passed_s: float) -> float:
        """Seconds that it has left, `passed_s` after the last look."""
        signs = self.signs
        with contextlib.suppress(OSError, struct.error):
            signs = read_pulse(self._file)
            if signs.phase == SCRIPT and self._log is not None:
                signs = replace(signs, beats=self._log.stat().st_size)
        self.quiet_s = self.quiet_s + passed_s if signs == self.signs else 0.0
        self.signs = signs
        return self.limit_s - self.quiet_s


class Clock:
    """The time in which whoever watches has run himself: a suspended job does not age."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def passed(self) -> float | None:
        """Seconds since the last look, at most two looks' worth; None where it is too early for another."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return None
        passed, self._looked = min(now - self._looked, 2 * LOOK_S), now
        return passed


class DataWatch:
    """Watches the data step of an attempt."""

    def __init__(self, scratch: Path, health: HealthConfig):
        make_pulse(pulse_file(scratch, DATA_STEP), "prepare")
        self._scratch = scratch
        self._patient = Patient(scratch, DATA_STEP, health)
        self._clock = Clock()
        self._active = health.watchdog

    def look(self, pid: int) -> Failure | None:
        """The failure of a data step that stands still, with its stack; None where it does not."""
        passed = self._clock.passed()
        if passed is None or self._patient.examine(passed) >= 0 or not self._active:
            return None
        seen = ask_all(self._scratch, {DATA_STEP: pid})[DATA_STEP]
        host, patient = socket.gethostname(), self._patient
        phase, quiet_s, limit = patient.signs.phase, patient.quiet_s, patient.limit_s
        stand = Stand(DATA_STEP, 0, host, pid, phase, 0, quiet_s, limit, seen.state, seen.main_thread)
        return Failure(
            rank=-1,
            node=0,
            host=host,
            time=time.time() - patient.quiet_s,
            cause=Cause.hang,
            message=describe(stand, "it is the data step"),
            traceback=as_traceback(seen.main_thread),
            pid=pid,
        )
