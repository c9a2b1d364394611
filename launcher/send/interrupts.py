"""Ctrl-C, SIGTERM and a lost terminal, for the time of a command that has something to end first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator
from types import FrameType

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.outcome import StopReason

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handled(numbers: Collection[signal.Signals], act: Callable[[int], None]) -> Iterator[None]:
    """Within it `act` is called with the number of a signal that arrives; the handlers before come back after it."""

    def arrive(number: int, _frame: FrameType | None) -> None:
        act(number)

    before = {number: signal.signal(number, arrive) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupts:
    """What arrived while local runs are in the foreground.

    The handler only counts; the waiting loop acts, since a handler must neither print nor take locks.
    """

    def __init__(self) -> None:
        self._arrived = 0
        self._acted = 0

    def new(self) -> Iterator[int]:
        """What arrived since the last call, counted from 1: the first asks for an end, the next ones insist."""
        while self._acted < self._arrived:
            self._acted += 1
            yield self._acted

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The handlers, for the time of the runs."""
        with handled(NUMBERS, self._arrive):
            yield

    def lose_reader(self) -> None:
        """Nobody reads what is printed any more (`| head`), which counts as a lost terminal.

        Nothing more where an end was asked for: Ctrl-C ends the reader of a pipe too.
        """
        _leave_terminal()
        self._arrived = max(self._arrived, 1)

    def _arrive(self, number: int) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        self._arrived += 1


def interrupt(folder: RunFolder, process: subprocess.Popen[bytes], turn: int) -> None:
    """End a local run: the first turn saves, the second ends it at once, the third kills it."""
    write_stop(folder, StopReason.stopped if turn == 1 else StopReason.cancelled)
    if turn > 1:
        end_group(process.pid, signal.SIGTERM if turn == 2 else signal.SIGKILL)


def write_stop(folder: RunFolder, reason: StopReason) -> None:
    """Ask the running attempt to end: save first for `stopped`, at once for `cancelled`."""
    write_atomically(folder.stop, f"{reason.value}\n".encode(), mode=folder.path.stat().st_mode & 0o666)


def end_group(pid: int, number: int) -> None:
    """Signal a process and, where it leads one, its group; nothing where it is gone."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _leave_terminal() -> None:
    """The terminal is gone: what is still printed goes nowhere instead of failing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
