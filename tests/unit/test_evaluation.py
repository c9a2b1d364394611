"""Decisions about evaluations: which is the best, when to end, what over-fitting is, which metrics there are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from conf.evaluation import greater_is_better, metrics_of
from conf.schema import EvalStrategy, ProblemType, RunConfig, TaskConfig, TaskName
from launcher.check.evaluation import evaluation_problems
from train.data.prepared import Labels
from train.evaluation import classification, text
from train.evaluation.best import Best, Contest, Rule, UnknownMetricError
from train.evaluation.course import Course
from train.evaluation.overfit import Point, kept, warning
from train.tasks.task import Prediction


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("loss", False),
        ("perplexity", False),
        ("mse", False),
        ("mae", False),
        ("word_error", False),
        ("accuracy", True),
        ("f1_macro", True),
        ("rougeL", True),
        ("r2", True),
    ],
)
def test_less_of_losses_and_errors_is_better(metric: str, greater: bool) -> None:
    assert greater_is_better(metric) is greater


@pytest.mark.parametrize(
    ("greater", "threshold", "value", "than", "better"),
    [
        (True, 0.0, 0.6, 0.5, True),
        (True, 0.0, 0.5, 0.5, False),
        (True, 0.2, 0.6, 0.5, False),
        (False, 0.0, 0.4, 0.5, True),
        (False, 0.2, 0.4, 0.5, False),
        (False, 0.0, math.nan, 0.5, False),
        (False, 0.0, math.nan, None, False),
        (True, 0.0, 0.1, None, True),
        (True, 0.0, 0.1, math.nan, True),
    ],
)
def test_better_is_more_than_the_threshold(
    greater: bool, threshold: float, value: float, than: float | None, better: bool
) -> None:
    assert Rule("x", greater, threshold).is_better(value, than) is better


def contest(rule: Rule, values: list[float]) -> tuple[Contest, int | None]:
    """The contest after evaluations at steps 1, 2, …, and the step at which training ends early."""
    found = Contest()
    for step, value in enumerate(values, start=1):
        found = rule.judged(found, step, {rule.metric: value})
        if rule.reason_to_stop(found):
            return found, step
    return found, None


@pytest.mark.parametrize(
    ("patience", "values", "best", "end"),
    [
        (2, [5, 4, 3, 3.5, 3.4], 3, 5),
        (2, [5, 4, 4.5, 3, 3.5], 4, None),
        (1, [5, 6], 1, 2),
        (0, [1, 2, 3, 4], 1, None),
    ],
)
def test_patience_counts_evaluations_in_a_row(patience: int, values: list[float], best: int, end: int | None) -> None:
    found, ended = contest(Rule("loss", False, patience=patience), values)
    assert found.best is not None
    assert (found.best.step, ended) == (best, end)


def test_a_model_that_could_not_be_kept_leaves_the_place_to_the_one_before() -> None:
    found, _ = contest(Rule("loss", False), [5, 4])
    assert found.without(2) == Contest(Best(1, 5, {"loss": 5}))
    assert found.without(1) is found


def test_a_model_whose_loss_is_no_number_is_never_the_best() -> None:
    rule = Rule("accuracy", True)
    assert rule.judged(Contest(), 1, {"accuracy": 0.9, "loss": math.nan}).best is None


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(UnknownMetricError, match=r"f1 was not evaluated; there are: accuracy, loss"):
        Rule("f1", True).value({"loss": 1.0, "accuracy": 0.5})


def curve(*pairs: tuple[float, float]) -> list[Point]:
    """Points at steps 10, 20, … of training and validation losses."""
    return [Point(10 * place, *pair) for place, pair in enumerate(pairs, start=1)]


@pytest.mark.parametrize(
    ("points", "warned"),
    [
        (curve((3, 3), (2, 2.5), (1.5, 2.6), (1, 2.8)), True),
        (curve((3, 3), (2, 2.5), (1.5, 2.6)), False),
        (curve((3, 3), (2, 2.5), (1.5, 2.8), (1, 2.7)), False),
        (curve((3, 3), (2, 2.5), (2.1, 2.6), (2.2, 2.8)), False),
        (curve((3, 3), (2, 2.5), (1.5, 2.501), (1, 2.502)), False),
        (curve((3, 3), (2, 2.5), (1.5, 2.4), (1, 2.3)), False),
        (curve((3, 3), (2, 2.5), (1.5, math.nan), (1, 2.8)), False),
    ],
    ids=["gap grows", "one rise", "falls again", "training rises too", "hardly", "both fall", "no number"],
)
def test_over_fitting_is_a_validation_loss_that_rises_while_the_training_loss_falls(
    points: list[Point], warned: bool
) -> None:
    assert (warning(points) is not None) is warned
    assert warning([*kept(points[:-1]), points[-1]]) == warning(points)


def test_over_fitting_is_said_once_with_its_figures() -> None:
    course, said = Course(), []
    for step, (training, validation) in enumerate([(3, 3), (2, 2.5), (1.5, 2.6), (1, 2.8), (0.5, 3), (0.4, 3.5)]):
        course.learn(training + 0.1)
        course.learn(training - 0.1)
        said.append(course.overfitting(step, validation))
    assert [text is not None for text in said] == [False, False, False, True, False, False]
    assert "rose from 2.5000 to 2.8000 while the training loss fell from 2.0000 to 1.0000" in str(said[3])


def test_a_course_comes_back_from_its_state() -> None:
    course = Course(step=5, contest=Contest(Best(4, 1.0, {"loss": 1.0}), None, 2), metrics={"eval/loss": math.inf})
    course.learn(1.0)
    course.overfitting(5, 2.0)
    course.learn(0.5)
    assert Course.of_state(course.as_state()) == course
    assert Course.of_state(None) == Course()


def predictions(*pairs: tuple[Any, Any]) -> list[Prediction]:
    return [Prediction(place, {"reference": right, "prediction": said}) for place, (right, said) in enumerate(pairs)]


def test_the_metrics_known_by_name_are_those_that_tasks_compute() -> None:
    both = ["a", "b"]
    kinds = {
        ProblemType.single_label_classification: (both, [("a", "a"), ("b", "a")]),
        ProblemType.multi_label_classification: (both, [(["a"], ["a"]), (["b"], [])]),
        ProblemType.regression: (["x"], [([1.0], [1.5]), ([2.0], [1.0])]),
    }
    for kind, (names, pairs) in kinds.items():
        outputs = [one.output for one in predictions(*pairs)]
        found = classification.scores(Labels(kind, names), outputs)
        known = set(metrics_of(TaskConfig(TaskName.seq_cls, kind)))
        assert set(found) <= known
        assert known - set(found) <= {"loss", "accuracy"}
        assert set(found) <= set(metrics_of(TaskConfig(TaskName.seq_cls)))
    answers = text.text_scores(predictions(("a b", "a b")))
    assert {"loss", *answers} == set(metrics_of(TaskConfig(TaskName.seq2seq_lm)))
    assert metrics_of(TaskConfig()) == ("loss", "perplexity")


def best_model(**changes: Any) -> RunConfig:
    config = RunConfig()
    config.data = replace(config.data, train_file="train.jsonl", validation_size=0.1)
    config.train = replace(config.train, load_best_model_at_end=True, **changes)
    return config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"metric_for_best_model": "eval/perplexity"}, ""),
        ({"metric_for_best_model": "acuracy"}, "acuracy is no metric of task=causal_lm as it is configured; there are"),
        ({"eval_strategy": EvalStrategy.no}, "train.load_best_model_at_end=true compares evaluations during training"),
    ],
    ids=["possible", "with its prefix", "no such metric", "no evaluations"],
)
def test_what_the_best_model_needs_is_checked_before_anything_is_queued(changes: dict[str, Any], words: str) -> None:
    found = [str(problem) for problem in evaluation_problems(best_model(**changes))]
    assert [words in problem for problem in found] == ([True] if words else [])


def test_the_best_model_and_evaluation_alone_need_data_to_evaluate() -> None:
    config = best_model(early_stopping_patience=2)
    config.data = replace(config.data, validation_size=0.0)
    keys = [problem.key for problem in evaluation_problems(config)]
    assert keys == ["train.load_best_model_at_end", "train.early_stopping_patience"]
    config.train = replace(config.train, max_steps=0)
    assert [problem.key for problem in evaluation_problems(config)] == ["train.max_steps"]
