"""Which evaluation is the best so far, and when there is no use in going on. Pure: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from conf.evaluation import greater_is_better
from conf.outcome import Cause
from conf.schema import TrainConfig


class UnknownMetricError(Exception):
    """`train.metric_for_best_model` names nothing that was evaluated."""

    cause = Cause.config


@dataclass(frozen=True)
class Best:
    """The best evaluation: its step, the value that decided, and all of its metrics by name."""

    step: int
    value: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """The best evaluation so far, the best before it, and how many in a row since were no better."""

    best: Best | None = None
    before: Best | None = None
    waited: int = 0

    def without(self, step: int) -> Contest:
        """The contest where the model of `step` could not be kept."""
        return self if self.best is None or self.best.step != step else Contest(self.before)


@dataclass(frozen=True)
class Rule:
    """What counts as better: `metric`, more or less of it, by more than `threshold`; `patience` 0 waits for ever."""

    metric: str
    greater: bool
    threshold: float = 0.0
    patience: int = 0

    @classmethod
    def of(cls, train: TrainConfig) -> Rule:
        """The rule of a configuration."""
        given, metric = train.greater_is_better, train.metric_for_best_model.removeprefix("eval/")
        greater = greater_is_better(metric) if given is None else given
        return cls(metric, greater, train.early_stopping_threshold, train.early_stopping_patience)

    def value(self, metrics: Mapping[str, float]) -> float:
        """The value that decides.

        Raises:
            UnknownMetricError: naming the metrics that there are.
        """
        if self.metric not in metrics:
            known = ", ".join(sorted(metrics))
            raise UnknownMetricError(f"train.metric_for_best_model={self.metric} was not evaluated; there are: {known}")
        return metrics[self.metric]

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether `value` improves on another by more than the threshold; a value that is no number never does."""
        if math.isnan(value):
            return False
        if than is None or math.isnan(than):
            return True
        return (value - than if self.greater else than - value) > self.threshold

    def judged(self, contest: Contest, step: int, metrics: Mapping[str, float]) -> Contest:
        """The contest after the evaluation of `step`; a model whose loss is no number is never the best."""
        value = self.value(metrics)
        sound = math.isfinite(metrics.get("loss", 0.0))
        if sound and self.is_better(value, None if contest.best is None else contest.best.value):
            return Contest(Best(step, value, dict(metrics)), contest.best)
        return replace(contest, waited=contest.waited + 1)

    def reason_to_stop(self, contest: Contest) -> str | None:
        """Why training ends early, in words; None where it goes on."""
        if not self.patience or contest.waited < self.patience:
            return None
        times = f"{contest.waited} evaluation{'' if contest.waited == 1 else 's'} in a row"
        best = contest.best
        since = "" if best is None else f" than {best.value:.6g} of step {best.step}"
        return f"stopped early: eval/{self.metric} was no better{since} in {times}"
