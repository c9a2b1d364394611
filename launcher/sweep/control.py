"""The controller of a search: asks Optuna for trials, starts their runs, reports their evaluations, tells how they end.

Everything it knows is in the study's journal, in `sweep.json` and in the run folders, so that another controller goes
on where one ended; trials go on without any.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from launcher.facts.gather import Gatherer
from launcher.problems import ConfigurationError, MusterError
from launcher.runs import rundir
from launcher.send.proposal import propose_config
from launcher.sweep.folder import SweepFolder, flocked, locked, read, write_sweep
from launcher.sweep.grid import Ready
from launcher.sweep.record import Sweep, identity
from launcher.sweep.results import last_metrics, read_curve
from launcher.sweep.search import Search
from launcher.sweep.starter import Starter
from launcher.sweep.study import Study, Trial
from launcher.sweep.tracked import tracked

PATIENCE_S = 60.0
GLANCE_S = 1.0
"""Longer than somebody who only looks holds the lock of the controller."""

Say = Callable[[str], None]


@dataclass
class Controller:
    """One process that runs a search. `leaving` is set where it is to end before the search does."""

    folder: SweepFolder
    search: Search
    study: Study
    starter: Starter
    say: Say = print
    leaving: bool = False
    running: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gather = Gatherer()
        self._links: rundir.Links = {}

    def run(self) -> bool:
        """Work until all trials have ended; False where it left before.

        Raises:
            MusterError: no trial can have a value.
        """
        for trial in self.study.running():
            self._take_up(trial)
        while True:
            self.running = [trial for trial in self.running if not self._has_ended(trial)]
            while not self.leaving and len(self.running) < self.search.sweep.parallel_trials and not self.study.is_full:
                self._start(self.study.ask())
            if not self.running:
                return self.study.is_full
            if self.leaving and not self.starter.ends_with_controller:
                return False
            self.starter.wait()

    def _take_up(self, trial: Trial) -> None:
        """Go on with a trial of another controller, whose run may have ended, go on or never have started."""
        self.say(f"trial {trial.number} goes on: {' '.join(trial.overrides)}")
        folder = _run_of(trial)
        if not trial.run_dir or not folder.run_json.is_file():
            self._start(trial)
            return
        outcome = read_outcome(folder.outcome)
        ended = outcome is not None and outcome.state in (State.done, State.failed)
        self.starter.follow(folder)
        if not ended and not trial.pruned and not self.starter.is_live(folder):
            self.starter.start(folder)
        self.running.append(trial)

    def _start(self, trial: Trial) -> None:
        """Make the run of a trial and start it; a configuration that is refused is a failed trial."""
        label = " ".join(trial.overrides)
        try:
            one = self._propose(trial)
        except ConfigurationError as error:
            self.say(f"trial {trial.number} failed: {label}: {error}")
            self.study.tell(trial, None)
            return
        self._note(one)
        trial.note(one.proposal.plan.run_dir)
        folder = _run_of(trial)
        outcome = read_outcome(folder.outcome)
        if (outcome is None or outcome.state is not State.done) and not self.starter.is_live(folder):
            folder = rundir.create(one.proposal.plan, one.proposal.artifacts, self._links)
            folder.stop.unlink(missing_ok=True)
            self.starter.start(folder)
        self.say(f"trial {trial.number} started: {label}")
        self.running.append(trial)

    def _propose(self, trial: Trial) -> Ready:
        point = self.search.point(trial.own)
        config = tracked(point.config, self.search.id, point.overrides)
        proposal = propose_config(config, look=self._gather)
        return Ready(proposal, list(point.words), point.overrides, identity(config))

    def _note(self, one: Ready) -> None:
        """The trial's run as a point of the sweep, before it exists."""
        with patiently_locked(self.folder):
            sweep = read(self.folder)
            if all(point.run_id != one.swept.run_id for point in sweep.points):
                write_sweep(self.folder, replace(sweep, points=[*sweep.points, one.swept]))

    def _has_ended(self, trial: Trial) -> bool:
        """Report what is new of a trial, prune it where it is no use, and tell how it ended once it has."""
        folder = _run_of(trial)
        metric = self.search.criterion.metric
        ended = self.starter.has_ended(folder)  # before the metrics are read, so that none is missed
        for step, value in read_curve(folder, metric):
            if step > 0 and trial.report(step, value) and not ended and not trial.pruned:
                trial.note_pruned()
                self.starter.stop(folder)
                self.say(f"trial {trial.number} is no use: {metric} {value:.5g} at step {step}; it ends")
        if not ended:
            return False
        outcome = read_outcome(folder.outcome)
        done = outcome is not None and outcome.state is State.done
        if self.leaving and not done and not trial.pruned:
            return True  # stopped because the controller leaves; it is taken up again
        result = last_metrics(folder).get(metric) if done else None
        if done and result is None:
            known = ", ".join(sorted(last_metrics(folder)))
            raise MusterError(f"{trial.run_dir} is done, but has no {metric} to optimise; give sweep.metric: {known}")
        trial.pruned = trial.pruned and not done
        self.study.tell(trial, result)
        how = "pruned" if trial.pruned else f"{metric} {result:.6g}" if result is not None else "failed"
        self.say(f"trial {trial.number}: {how}  ({folder.path.name})")
        return True


def _run_of(trial: Trial) -> RunFolder:
    return RunFolder(Path(trial.run_dir))


@contextlib.contextmanager
def alone(folder: SweepFolder) -> Iterator[None]:
    """The study for one controller.

    Raises:
        MusterError: another one works on it, or its file system has no locks.
    """
    descriptor = os.open(folder.controller_lock, os.O_RDWR | os.O_CREAT, folder.file_mode)
    try:
        deadline = time.monotonic() + GLANCE_S
        while not flocked(descriptor, fcntl.LOCK_EX, folder):
            if time.monotonic() > deadline:
                raise MusterError(f"another controller works on {folder.path.name}")
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def is_searched(folder: SweepFolder, sweep: Sweep) -> bool:
    """Whether a controller works on the sweep, or one that was sent has not begun."""
    if sweep.sweep.sampler is None:
        return False
    if not folder.controller_lock.exists():
        return True
    return _is_held(folder)


def ask_to_leave(folder: SweepFolder) -> list[str]:
    """Ask a controller of this machine to end; what happened, in words. Nothing where none works."""
    if not folder.controller_lock.exists() or not _is_held(folder):
        return []
    host, _, pid = folder.controller_lock.read_text().strip().partition(" ")
    if host != socket.gethostname() or not pid.isdigit():
        raise MusterError(f"the controller of {folder.path.name} works on {host}; Ctrl-C there ends it")
    os.kill(int(pid), signal.SIGTERM)
    return [f"the controller (process {pid}) saves what runs and ends"]


def _is_held(folder: SweepFolder) -> bool:
    with folder.controller_lock.open("rb") as file, contextlib.suppress(MusterError):
        return not flocked(file.fileno(), fcntl.LOCK_SH, folder)
    return False  # where there are no locks no controller works


@contextlib.contextmanager
def patiently_locked(folder: SweepFolder) -> Iterator[None]:
    """The sweep for this process alone, once other commands have let go of it."""
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except MusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield
