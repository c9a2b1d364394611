"""A run on this machine, in the foreground: starts `job.sh` in a session of its own, waits, turns Ctrl-C into a stop.

The first Ctrl-C writes `STOP`, so that the ranks save and end; the second ends the agent and its ranks at once. Losing
the terminal counts as the first: a run of `muster run` belongs to its terminal, one of `muster submit` does not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from conf.files import write_atomically
from conf.layout import Attempt, RunFolder
from conf.outcome import Outcome, StopReason, read_outcome
from launcher.problems import MusterError
from launcher.runs.read import last_text_lines, list_attempts, read_job
from launcher.show.progress import Progress

POLL_S = 0.1


@dataclass(frozen=True)
class LocalEnd:
    """How a local run came back: exit status of `job.sh`, its attempt (None: it never made one), its last words."""

    exit_status: int
    attempt: Attempt | None
    outcome: Outcome | None
    words: list[str]


def write_stop(folder: RunFolder, reason: StopReason) -> None:
    """Ask the running attempt to end: save first for `stopped`, at once for `cancelled`."""
    write_atomically(folder.stop, f"{reason.value}\n".encode(), mode=folder.path.stat().st_mode & 0o666)


class Interrupts:
    """What Ctrl-C, a lost terminal and SIGTERM do while a local run is in the foreground.

    The handler only counts; the waiting loop acts, since a handler must neither print nor take locks.
    """

    def __init__(self, folder: RunFolder, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self.arrived = 0
        self.acted = 0

    def _arrive(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        self.arrived += 1

    def act(self, process: subprocess.Popen[bytes]) -> None:
        """Do what the interrupts since the last call ask for."""
        while self.acted < self.arrived:
            self.acted += 1
            if self.acted == 1:
                write_stop(self.folder, StopReason.stopped)
                self.progress.say("stopping: the ranks save and end; Ctrl-C again ends them at once")
            else:
                write_stop(self.folder, StopReason.cancelled)
                end_group(process.pid, signal.SIGTERM if self.acted == 2 else signal.SIGKILL)
                self.progress.say("ending at once")

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The handlers, for the time of the run."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._arrive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_terminal() -> None:
    """The terminal is gone: what is still printed goes nowhere instead of failing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def end_group(pid: int, number: int) -> None:
    """Signal a process and, where it leads one, its group; nothing where it is gone."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def run_local(folder: RunFolder, script: list[str], total_steps: int | None) -> LocalEnd:
    """Run `script` (normally `bash RUN/job.sh`) to its end with a live line.

    Raises:
        MusterError: bash could not be started.
    """
    before = list_attempts(folder)
    with tempfile.TemporaryDirectory(prefix="muster-") as scratch:
        words = Path(scratch) / "words"
        with words.open("wb") as file, Progress(folder, total_steps) as progress:
            interrupts = Interrupts(folder, progress)
            with interrupts.installed():
                try:
                    process = subprocess.Popen(
                        script, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                    )
                except OSError as error:
                    raise MusterError(f"cannot start {script[0]}: {error.strerror}") from error
                while process.poll() is None:
                    interrupts.act(process)
                    progress.update()
                    time.sleep(POLL_S)
        attempt = next(iter(reversed(list_attempts(folder))), None)
        if attempt is not None and before and attempt.number <= before[-1].number:
            attempt = None
        outcome = read_outcome(folder.outcome)
        current = outcome if outcome and attempt and outcome.attempt == attempt.number else None
        return LocalEnd(process.returncode, attempt, current, last_text_lines(words, 20))


def find_agent(attempt: Attempt, host: str) -> int | None:
    """Process id of a live local attempt on this host; None where it has ended, is elsewhere or belongs to Slurm.

    A process id may have been used again since: the process has to name the run folder, or be what body.sh became.
    """
    job = read_job(attempt)
    pid = job.get("pid")
    if not isinstance(pid, int) or not str(job.get("job", "")).startswith("local") or job.get("host") != host:
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None if sys.platform == "linux" or not _exists(pid) else pid
    return pid if os.fsencode(attempt.folder.parent.parent) in command else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
