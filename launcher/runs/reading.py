"""A run's files as a watcher reads them: each is read once, and then what was appended.

The first look takes the end of metrics.jsonl and events.jsonl; of the steps before it only samples, for the curves. So
a run of a million lines costs no more than one of a thousand. Evaluations are few: their events tell all of them.
"""

from __future__ import annotations

from collections import deque

from conf.layout import Attempt, RunFolder
from conf.record import Plan, read_plan
from launcher.runs.evaluations import read_evaluations
from launcher.runs.read import Follower, Line, number, sample_lines
from launcher.runs.series import Series
from launcher.show.progress import View, describe_event

LOSS, EVAL_LOSS, RATE, NORM, SPEED = (
    "train/loss",
    "eval/loss",
    "train/learning_rate",
    "train/grad_norm",
    "perf/tokens_per_second",
)
CURVES = (LOSS, EVAL_LOSS, RATE, NORM, SPEED)
SAMPLES = 200
EVENTS = 20


class Reading:
    """What is known of one run so far. `look()` takes what is new; nothing else reads the run's journals."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.series: Series | None = None
        self.events: deque[tuple[float, str]] = deque(maxlen=EVENTS)
        self._plan: Plan | None = None
        self._plan_is: tuple[int, int, int] = (0, 0, 0)
        self._view = View()
        self._begin()

    def _begin(self) -> None:
        self._metrics, self._events = Follower.near_end(self.folder.metrics), Follower.near_end(self.folder.events)
        self._before = self._metrics.offset

    def plan(self) -> Plan:
        """The plan, read again only where the file was replaced.

        Raises:
            FileNotFoundError, ValueError: run.json is missing or cannot be read.
        """
        found = self.folder.run_json.stat()
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._plan is None or identity != self._plan_is:
            self._plan, self._plan_is = read_plan(self.folder.run_json), identity
        return self._plan

    def want_curves(self, samples: int = SAMPLES) -> Series:
        """Keep curves from here on; of a long past all evaluations, and so many samples of its steps."""
        if self.series is None:
            self.series = Series(CURVES)
            for line in sample_lines(self.folder.metrics, self._before, samples, f'"{LOSS}"'.encode()):
                self.series.take(line, only=LOSS)
            for step, values in read_evaluations(self.folder).splits.get("validation", {}).items():
                self.series.take({"step": step, EVAL_LOSS: values.get("loss")})
            self._metrics.offset = self._before
            self.look()
        return self.series

    def look(self) -> None:
        """Take what was appended since the last time."""
        for line in self._events.read():
            self._take_event(line)
        # In the order of the file: after a resume from an earlier checkpoint the newest attempt's step counts.
        for line in self._metrics.read():
            self._view.take_metrics(line)
            if self.series is not None:
                self.series.take(line)

    def view(self, newest: Attempt | None) -> View:
        """The live line's own view of the run as it was at the last look."""
        plan, view = self.plan(), self._view
        view.total_steps = plan.config.train.max_steps or view.total_steps or plan.expected_steps
        if newest is not None and view.values.get("attempt") != newest.number:
            # The pace and speed of an earlier attempt say nothing about this one.
            view.pace.clear()
            view.values.pop("perf/tokens_per_second", None)
        return view

    def _take_event(self, line: Line) -> None:
        said = self._view.take_event(line) or describe_event(line)
        at = number(line.get("time"))
        if said and at is not None:
            self.events.append((at, said))
