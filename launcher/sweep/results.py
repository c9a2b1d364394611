"""What came of the points of a sweep, read from their run folders: state, step, values swept, metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conf.layout import RunFolder
from conf.metrics import merge_steps
from conf.outcome import State, read_outcome
from conf.record import Plan, read_plan
from launcher.figures.axis import Value
from launcher.plan.content import flatten, plain
from launcher.runs.read import number, read_lines
from launcher.runs.standing import stand
from launcher.sweep.record import SweptPoint
from slurm.parse import Job

NOT_STARTED = "not started"


@dataclass(frozen=True)
class Result:
    """One point at one moment.

    `values` has the point's value of every swept key, a number where it reads as one; `metrics` the last value of each
    metric, those of the outcome first, which are of the best model where the run hands that back.
    """

    point: SweptPoint
    state: str
    step: int = 0
    values: dict[str, Value] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    plan: Plan | None = None

    @property
    def is_done(self) -> bool:
        return self.state == State.done.value


def read_results(points: Iterable[SweptPoint], jobs: Mapping[str, Job] | None) -> list[Result]:
    """Every point in its order; `jobs` are those that Slurm still has."""
    points = list(points)
    keys = list(dict.fromkeys(key for point in points for key in own_values(point)))
    return [_result(point, keys, jobs) for point in points]


def own_values(point: SweptPoint) -> dict[str, str]:
    """Key → value as written, of the point's own overrides."""
    pairs = (word.lstrip("+").partition("=") for word in point.overrides)
    return {key: value for key, _, value in pairs}


def last_metrics(folder: RunFolder) -> dict[str, float]:
    """The last value of each metric of a run."""
    found: dict[str, float] = {}
    for line in merge_steps(read_lines(folder.metrics)).values():
        found |= _numbers(line)
    outcome = read_outcome(folder.outcome)
    return found | (outcome.metrics if outcome else {})


def read_curve(folder: RunFolder, metric: str) -> list[tuple[int, float]]:
    """Step and value of each line that has the metric."""
    pairs = ((step, number(line.get(metric))) for step, line in merge_steps(read_lines(folder.metrics)).items())
    return [(step, value) for step, value in pairs if value is not None]


def as_value(text: Any) -> Value:
    """A value as a number where it reads as one."""
    if isinstance(text, bool):
        return str(text).lower()
    try:
        return float(text)
    except (TypeError, ValueError):
        return "null" if text is None else str(text)


def _result(point: SweptPoint, keys: list[str], jobs: Mapping[str, Job] | None) -> Result:
    own = own_values(point)
    if not point.folder.run_json.is_file():
        return Result(point, NOT_STARTED, values={key: as_value(own.get(key, "")) for key in keys})
    standing = stand(point.folder, jobs)
    config = {} if own.keys() >= set(keys) else flatten(plain(read_plan(point.folder.run_json).config))
    values = {key: as_value(own.get(key, config.get(key, ""))) for key in keys}
    metrics = last_metrics(point.folder)
    return Result(point, standing.state.value, standing.step, values, metrics, standing.plan)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    values = {name: number(value) for name, value in line.items() if "/" in name}
    return {name: value for name, value in values.items() if value is not None}
