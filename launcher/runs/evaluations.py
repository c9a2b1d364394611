"""What a run's evaluations have said, read from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from conf.evaluation import HEADLINES
from conf.layout import RunFolder
from launcher.runs.read import Line, number, read_lines

SPLITS = ("validation", "test")
_NOT_METRICS = frozenset({"time", "attempt", "event", "split", "step"})


@dataclass(frozen=True)
class Best:
    """The best evaluation so far: its step, and the metric that decided with its value."""

    step: int
    metric: str
    value: float


@dataclass
class Evaluations:
    """Metrics by split and step, of the last time that a step was evaluated; the best; warnings about them.

    `handed_back` is the step of the best model, where the run hands that back instead of the last.
    """

    splits: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    best: Best | None = None
    handed_back: int | None = None
    warnings: list[str] = field(default_factory=list)

    def take(self, line: Line) -> None:
        """One line of events.jsonl."""
        event, step = line.get("event"), line.get("step")
        if not isinstance(step, int):
            return
        if event == "evaluation":
            found = self.splits.setdefault(str(line.get("split", "validation")), {})
            found.pop(step, None)  # what was evaluated again is the newest
            found[step] = metrics(line)
        elif event == "best" and (value := number(line.get("value"))) is not None:
            self.best = Best(step, str(line.get("metric", "")), value)
        elif event == "best_loaded":
            self.handed_back = step
        elif event == "warning" and line.get("about") == "overfitting":
            self.warnings = [*self.warnings, str(line.get("text", ""))]


def read_evaluations(folder: RunFolder) -> Evaluations:
    """The evaluations of a run."""
    found = Evaluations()
    for line in read_lines(folder.events):
        found.take(line)
    return found


def metrics(line: Line) -> dict[str, float]:
    """The metrics in the event of an evaluation."""
    numbers = {name: number(value) for name, value in line.items() if name not in _NOT_METRICS}
    return {name: value for name, value in numbers.items() if value is not None}


def headlines(names: Iterable[str]) -> list[str]:
    """The main ones of some metrics, in their usual order."""
    known = set(names)
    return [name for name in HEADLINES if name in known]


def ordered(names: Iterable[str]) -> list[str]:
    """All of some metrics, the main ones first."""
    known = list(dict.fromkeys(names))
    return [*headlines(known), *(name for name in known if name not in HEADLINES)]


def in_words(values: dict[str, float]) -> str:
    """The main metrics of an evaluation: `loss 1.2345, accuracy 0.9210`."""
    return ", ".join(f"{name} {values[name]:.5g}" for name in headlines(values))
