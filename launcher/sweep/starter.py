"""How the runs of trials are started, watched and ended: on this machine or on Slurm."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from conf.layout import RunFolder
from conf.outcome import State, StopReason, read_outcome
from conf.record import read_plan
from launcher.problems import MusterError
from launcher.runs.read import list_attempts
from launcher.runs.standing import live_submissions, stand
from launcher.send import ask
from launcher.send.interrupts import write_stop
from launcher.send.local import start_script
from launcher.send.scheduler import live_jobs
from launcher.send.submit import send_all

REQUEUE_S = 60.0
"""How long after an attempt its run may be in nobody's hands although it is to go on."""


class Starter(ABC):
    """Starts and watches runs. `ends_with_controller`: whether runs are stopped and waited for where it leaves."""

    ends_with_controller = False
    pause_s = 2.0

    def __init__(self) -> None:
        self.first_attempt: dict[RunFolder, int] = {}

    @abstractmethod
    def start(self, folder: RunFolder) -> None:
        """Start a run, or go on with it."""

    @abstractmethod
    def is_live(self, folder: RunFolder) -> bool:
        """Whether something of the run waits or runs."""

    @abstractmethod
    def stop(self, folder: RunFolder) -> None:
        """Ask a run to end."""

    def follow(self, folder: RunFolder) -> None:
        """Watch a run from now on: what its earlier attempts came to does not count."""
        attempts = list_attempts(folder)
        alive = self.is_live(folder)
        self.first_attempt[folder] = (attempts[-1].number + (not alive)) if attempts else 0

    def has_ended(self, folder: RunFolder) -> bool:
        """Whether nothing more comes of the run."""
        outcome = read_outcome(folder.outcome)
        if outcome is not None and outcome.state is State.done:
            return True
        if outcome is None or outcome.attempt < self.first_attempt.get(folder, 0):
            return not self.is_live(folder)
        decision = _word(folder.attempt(outcome.attempt).decision)
        if decision == "end" or self.is_live(folder):
            return decision == "end"
        # A run that is ended while it waits has the outcome of its last attempt, whose decision stays.
        ended = outcome.state in (State.stopped, State.cancelled)
        return decision != "requeue" or ended or time.time() - outcome.time > REQUEUE_S

    def wait(self) -> None:
        """Let some time go by."""
        time.sleep(self.pause_s)


class LocalStarter(Starter):
    """Runs of this machine, which end with the command that started them."""

    ends_with_controller = True
    pause_s = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.processes: dict[RunFolder, subprocess.Popen[bytes]] = {}

    def start(self, folder: RunFolder) -> None:
        self.follow(folder)
        folder.stop.unlink(missing_ok=True)
        self.processes[folder] = start_script(folder)

    def is_live(self, folder: RunFolder) -> bool:
        process = self.processes.get(folder)
        if process is not None:
            return process.poll() is None
        return folder.run_json.is_file() and stand(folder, {}).live

    def stop(self, folder: RunFolder) -> None:
        write_stop(folder, StopReason.stopped)

    def stop_all(self) -> None:
        """Ask everything that runs to save and end."""
        for folder, process in self.processes.items():
            if process.poll() is None and not folder.stop.exists():
                write_stop(folder, StopReason.stopped)


class SlurmStarter(Starter):
    """Runs that are jobs of their own, which go on without a controller."""

    def start(self, folder: RunFolder) -> None:
        self.follow(folder)
        folder.stop.unlink(missing_ok=True)
        send_all(folder, read_plan(folder.run_json))

    def is_live(self, folder: RunFolder) -> bool:
        if not folder.run_json.is_file():
            return False
        jobs = live_jobs([folder])
        return jobs is None or bool(live_submissions(folder, jobs)) or stand(folder, jobs).live

    def stop(self, folder: RunFolder) -> None:
        try:
            ask.stop(folder)
        except MusterError:
            return  # it has just ended by itself


def _word(path: Path) -> str:
    """What a file holds; empty where there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
