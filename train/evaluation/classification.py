"""Metrics of labels and numbers, by scikit-learn, over all predictions of a split at once.

What is compared is what a prediction holds for people (`reference`, `prediction`), so that anybody can compute the same
figures from a file of predictions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.schema import ProblemType
from train.data.prepared import Labels

Output = dict[str, Any]
Array = npt.NDArray[Any]

AVERAGES = ("micro", "macro", "weighted")


def scores(labels: Labels, outputs: Sequence[Output]) -> dict[str, float]:
    """Metrics by name; none where there is no prediction."""
    if not outputs:
        return {}
    if labels.problem_type is ProblemType.regression:
        return _of_numbers(*numbers(outputs))
    expected, predicted = places(labels, outputs)
    return _of_labels(expected, predicted, labels.problem_type is ProblemType.single_label_classification)


def places(labels: Labels, outputs: Sequence[Output]) -> tuple[Array, Array]:
    """Expected and predicted labels as numbers, (documents,); several of them as 0 and 1, (documents, labels)."""
    index = {name: place for place, name in enumerate(labels.names)}
    sides = []
    for side in ("reference", "prediction"):
        if labels.problem_type is ProblemType.single_label_classification:
            sides.append(np.array([index[output[side]] for output in outputs]))
            continue
        held = np.zeros((len(outputs), len(index)), np.int64)
        for row, output in enumerate(outputs):
            held[row, [index[name] for name in output[side]]] = 1
        sides.append(held)
    return sides[0], sides[1]


def numbers(outputs: Sequence[Output]) -> tuple[Array, Array]:
    """Expected and predicted numbers, (documents, width)."""
    expected, predicted = (np.array([output[side] for output in outputs]) for side in ("reference", "prediction"))
    return expected, predicted


def per_class(labels: Labels, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and the number of documents of each label, in the order of the model's outputs."""
    from sklearn.metrics import precision_recall_fscore_support

    expected, predicted = places(labels, outputs)
    every = list(range(len(labels.names)))
    found = precision_recall_fscore_support(expected, predicted, labels=every, zero_division=0)
    columns = ("precision", "recall", "f1", "documents")
    return [
        {"label": name, **{column: value.item() for column, value in zip(columns, row, strict=True)}}
        for name, *row in zip(labels.names, *found, strict=True)
    ]


def _of_labels(expected: Array, predicted: Array, single: bool) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    # Of several labels it is the share of documents of which all are right.
    values = {"accuracy" if single else "subset_accuracy": float(accuracy_score(expected, predicted))}
    for average in AVERAGES:
        found = precision_recall_fscore_support(expected, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), found, strict=False):
            values[f"{name}_{average}"] = float(value)
    return values


def _of_numbers(expected: Array, predicted: Array) -> dict[str, float]:
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    enough = len(expected) > 1
    return {
        "mse": float(mean_squared_error(expected, predicted)),
        "mae": float(mean_absolute_error(expected, predicted)),
        "r2": float(r2_score(expected, predicted)) if enough else math.nan,
        "pearson": _mean_correlation("pearsonr", expected, predicted) if enough else math.nan,
        "spearman": _mean_correlation("spearmanr", expected, predicted) if enough else math.nan,
    }


def _mean_correlation(name: str, expected: Array, predicted: Array) -> float:
    """Over the outputs; no number where one of them never changes."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        each = [getattr(stats, name)(*columns).statistic for columns in zip(expected.T, predicted.T, strict=True)]
    return float(np.mean(each))
