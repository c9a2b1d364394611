"""Which point of a sweep is the best: by which metric, which way, in which order. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from conf.evaluation import greater_is_better
from conf.schema import Direction, SweepConfig, TrainConfig
from launcher.problems import ConfigurationError, NotFoundError, Problem, nearest
from launcher.sweep.results import Result

WITHOUT_EVALUATION = "train/loss"


@dataclass(frozen=True)
class Criterion:
    """The metric that decides, by its name in metrics.jsonl, and whether more of it is better."""

    metric: str
    greater: bool

    @property
    def words(self) -> str:
        """`eval/loss, less is better`."""
        return f"{self.metric}, {'more' if self.greater else 'less'} is better"


@dataclass(frozen=True)
class Ranked:
    """A point with its place, from 1; None for one that is not done or has no finite value."""

    place: int | None
    result: Result
    value: float | None


def criterion_of(
    sweep: SweepConfig, results: Sequence[Result], metric: str | None = None, direction: Direction | None = None
) -> Criterion:
    """The criterion of a sweep; `metric` and `direction` are what a person asked for instead.

    Raises:
        NotFoundError: no point has any metric yet.
        ConfigurationError: no point has that metric.
    """
    train = next((result.plan.config.train for result in results if result.plan is not None), TrainConfig())
    known = sorted({name for result in results for name in result.metrics})
    if not known:
        raise NotFoundError("no point of the sweep has metrics yet")
    wanted = metric or sweep.metric
    if wanted is None:
        usual = f"eval/{train.metric_for_best_model.removeprefix('eval/')}"
        wanted = usual if usual in known else WITHOUT_EVALUATION
    found = next((name for name in (wanted, f"eval/{wanted}", f"test/{wanted}") if name in known), None)
    if found is None:
        near = nearest(wanted, known) or ", ".join(known)
        raise ConfigurationError([Problem("metric", wanted, "is a metric of no point", near)])
    if direction is None and metric in (None, sweep.metric):
        direction = sweep.direction
    return Criterion(found, greater_of(found, direction, train))


def greater_of(metric: str, direction: Direction | None, train: TrainConfig) -> bool:
    """Whether more of a metric is better: as given, else as the run's configuration says, else by its name."""
    if direction is not None:
        return direction is Direction.maximize
    name = metric.rpartition("/")[2]
    decides = name == train.metric_for_best_model.rpartition("/")[2]
    if decides and train.greater_is_better is not None:
        return train.greater_is_better
    return greater_is_better(name)


def rank(results: Sequence[Result], criterion: Criterion) -> list[Ranked]:
    """The points that are done, best first, then the rest in its order; equal values keep their order."""

    def counts(result: Result) -> bool:
        return result.is_done and math.isfinite(result.metrics.get(criterion.metric, math.nan))

    sign = -1 if criterion.greater else 1
    done = sorted(filter(counts, results), key=lambda result: sign * result.metrics[criterion.metric])
    placed = [Ranked(place, result, result.metrics[criterion.metric]) for place, result in enumerate(done, start=1)]
    rest = [result for result in results if not counts(result)]
    return [*placed, *(Ranked(None, result, result.metrics.get(criterion.metric)) for result in rest)]
