"""Looking at runs and sweeps again and again: what is known of each stays, and Slurm is asked once for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from conf.layout import RunFolder
from launcher.runs.accounting import with_accounting
from launcher.runs.reading import Reading
from launcher.runs.standing import Standing, stand
from launcher.send.scheduler import live_jobs
from launcher.sweep.record import Sweep

ENDED_S = 30.0
"""How often runs that have ended are looked at, where a person did not name them."""

Find = Callable[[], Iterable[RunFolder]]


@dataclass(frozen=True)
class Look:
    """How runs stand at one moment: live ones first, then the newest. `unreadable` says what could not be read."""

    now: float
    standings: list[Standing]
    unreadable: list[str] = field(default_factory=list)
    sweeps: list[tuple[Sweep, list[Standing | None]]] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return any(standing.live for standing in self.standings)


class Watcher:
    """Looks at the runs that `find` gives, and at the sweeps that `sweeps` gives."""

    def __init__(self, find: Find, sweeps: Callable[[], Iterable[Sweep]] = tuple, ended_s: float = ENDED_S) -> None:
        self._find = find
        self._sweeps = sweeps
        self._ended_s = ended_s
        self._readings: dict[Path, Reading] = {}
        self._last: dict[Path, tuple[float, Standing]] = {}
        self._accounted: dict[tuple[Path, str], Standing] = {}

    def reading(self, folder: RunFolder) -> Reading:
        """What is known of a run's files."""
        if folder.path not in self._readings:
            self._readings[folder.path] = Reading(folder)
        return self._readings[folder.path]

    def look(self) -> Look:
        """How they stand now."""
        now = time.time()
        folders = list(self._find())
        due = [folder for folder in folders if self._is_due(folder, now)]
        jobs = live_jobs(due, lambda folder: self.reading(folder).plan())
        unreadable = []
        for folder in due:
            try:
                self._last[folder.path] = now, stand(folder, jobs, self.reading(folder))
            except (OSError, ValueError) as error:
                self._last.pop(folder.path, None)
                unreadable.append(f"{folder.path}: {error}")
        found = self._with_accounting([self._last[each.path][1] for each in folders if each.path in self._last])
        known = {standing.folder.path: standing for standing in found}
        sweeps = [(sweep, [known.get(point.folder.path) for point in sweep.points]) for sweep in self._sweeps()]
        order = sorted(found, key=lambda standing: (not standing.live, -standing.since))
        return Look(now, order, unreadable, sweeps)

    def _is_due(self, folder: RunFolder, now: float) -> bool:
        at, standing = self._last.get(folder.path, (0.0, None))
        return standing is None or standing.live or now - at >= self._ended_s

    def _with_accounting(self, standings: list[Standing]) -> list[Standing]:
        """What Slurm's accounting says of jobs that left no word; it is asked once for each job."""
        new = [each for each in standings if each.wordless and (each.folder.path, each.job) not in self._accounted]
        for each in with_accounting(new):
            self._accounted[each.folder.path, each.job] = each
        return [
            self._accounted.get((each.folder.path, each.job), each) if each.wordless else each for each in standings
        ]
