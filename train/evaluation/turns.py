"""The evaluations of a run: before training, along the way and at the end; what is recorded and concluded of each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from conf.evaluation import HEADLINES
from conf.schema import EvalStrategy
from train.data.batches import Loader
from train.evaluation.best import Rule
from train.evaluation.evaluate import Evaluation, evaluate
from train.evaluation.predictions import write_predictions
from train.training import Training


def evaluate_before(training: Training) -> None:
    """Validation and test set before the first step, to compare with; a test set that is answered waits for the end."""
    for split, loader in (("validation", training.validation), ("test", training.test)):
        if loader is None or (split == "test" and training.task.generation is not None):
            continue
        result = _evaluate(training, loader, split)
        if result is not None:
            write_predictions(training, split, result, before=True)
    _back_to_training(training)


def is_evaluation_due(training: Training, step: int) -> bool:
    """Whether the validation set is evaluated after a step; after the last one that is done by the end itself."""
    config, loader = training.plan.config.train, training.loader
    if training.validation is None or step in (0, training.total_steps):
        return False
    if config.eval_strategy is EvalStrategy.epoch:
        epoch, before = (number * loader.units_per_step / loader.units for number in (step, step - 1))
        return math.floor(epoch + 1e-9) > math.floor(before + 1e-9)
    return config.eval_strategy is EvalStrategy.steps and step % max(1, config.eval_steps) == 0


def validate(training: Training) -> Evaluation | None:
    """Evaluate the validation set after a step and draw the conclusions; None where there is none or a stop came.

    Raises:
        UnknownMetricError: `train.metric_for_best_model` is not among the metrics.
    """
    if training.validation is None:
        return None
    result = _evaluate(training, training.validation, "validation")
    if result is not None and training.total_steps == 0:
        write_predictions(training, "validation", result)
    elif result is not None:
        _conclude(training, result)
    _back_to_training(training)
    return result


def _conclude(training: Training, result: Evaluation) -> None:
    """Whether this is the best model so far, and whether the run over-fits."""
    config, step, course = training.plan.config.train, training.progress.step, training.progress.course
    rule, before = Rule.of(config), course.contest
    course.step = step
    course.contest = rule.judged(before, step, result.values)
    text = course.overfitting(step, result.loss)
    if text is not None:
        training.journal.event("warning", text=text, about="overfitting", step=step)
    best = course.contest.best
    improved = best is not None and best is not before.best
    if improved or not config.load_best_model_at_end:
        write_predictions(training, "validation", result)
    if improved and best is not None:
        training.journal.event("best", step=step, metric=rule.metric, value=best.value)


def test(training: Training) -> Evaluation | None:
    """Evaluate the test set with the model that the run hands back; None where there is none, or a stop came."""
    if training.test is None:
        return None
    result = _evaluate(training, training.test, "test")
    if result is not None:
        write_predictions(training, "test", result)
    return result


def reason_to_stop(training: Training) -> str | None:
    """Why training ends early, in words; None where it goes on."""
    return Rule.of(training.plan.config.train).reason_to_stop(training.progress.course.contest)


def is_best_now(training: Training) -> bool:
    """Whether the present step's model is the best so far, and to be kept for the end."""
    best = training.progress.course.contest.best
    keeps = training.plan.config.train.load_best_model_at_end
    return keeps and best is not None and best.step == training.progress.step


def metrics_of(training: Training) -> dict[str, float]:
    """The last values of each evaluated split, or those of the best model where that is what the run hands back.

    Values that are no numbers are left out: JSON has none.
    """
    course = training.progress.course
    metrics, best = dict(course.metrics), course.contest.best
    if training.best_step is not None and best is not None:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("eval/")}
        metrics |= {f"eval/{name}": value for name, value in best.metrics.items()}
    return {name: metrics[name] for name in sorted(metrics) if math.isfinite(metrics[name])}


def _evaluate(training: Training, loader: Loader, split: str) -> Evaluation | None:
    """Evaluate a split and write its metrics down."""
    result = evaluate(training, loader)
    if result is None:
        return None
    if split == "validation":
        Rule.of(training.plan.config.train).value(result.values)
    step = training.model_step
    name = "eval" if split == "validation" else split
    training.progress.course.take(name, result.values)
    values = {**result.values, "runtime": result.seconds, "samples_per_second": result.documents / result.seconds}
    training.journal.metrics(training.progress.step, {f"{name}/{metric}": value for metric, value in values.items()})
    training.journal.event("evaluation", split=split, **{**result.values, "step": step})
    if training.world.first:
        print(f"step {step}/{training.total_steps}  {split}: {in_words(result.values)}", flush=True)
    return result


def in_words(values: Mapping[str, float]) -> str:
    """The main metrics: `loss 1.2345  accuracy 0.9210`."""
    return "  ".join(f"{name} {values[name]:.4f}" for name in HEADLINES if name in values)


def _back_to_training(training: Training) -> None:
    training.journal.phase("train", training.progress.step, training.total_steps, "steps")
