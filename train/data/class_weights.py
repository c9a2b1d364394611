"""Factors of labels' losses: as they are given by name, and by how rare labels are. Imports no torch."""

from __future__ import annotations

import numpy as np

from conf.schema import ProblemType, TaskConfig
from train.data.block import DataError
from train.data.documents import LABELS, Documents
from train.data.labels import UnknownLabelError
from train.data.prepared import Labels


def class_weights(task: TaskConfig, labels: Labels, training: Documents) -> list[float] | None:
    """Factor of each label's loss, in the order of the model's outputs; None where all are 1.

    `balance_classes` weighs a label by documents / (labels × documents with it), as scikit-learn's `balanced` does; one
    that no document has by 1.

    Raises:
        DataError: a weight is given for a label that there is not, or for numbers.
    """
    if not task.class_weights and not task.balance_classes:
        return None
    if labels.problem_type is ProblemType.regression:
        raise DataError("task.class_weights and task.balance_classes weigh labels; the labels of this data are numbers")
    for name in task.class_weights:
        if name not in labels.names:
            raise DataError(f"task.class_weights: {UnknownLabelError(name, labels.names)}")
    weights = [1.0] * len(labels.names)
    if task.balance_classes:
        column = training.columns[LABELS]
        single = labels.problem_type is ProblemType.single_label_classification
        counts = np.bincount(column[:, 0].astype(np.int64), minlength=len(weights)) if single else column.sum(axis=0)
        weights = [len(column) / (len(weights) * count) if count else 1.0 for count in counts.tolist()]
    return [weight * task.class_weights.get(name, 1.0) for name, weight in zip(labels.names, weights, strict=True)]
