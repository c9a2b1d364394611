"""What a person looks at beside a classifier's metrics: figures of each label, and which labels are taken for which."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.schema import ProblemType
from train.data.prepared import Labels
from train.evaluation.classification import per_class, places
from train.evaluation.confusion import confusion_picture


def write_class_report(folder: RunFolder, split: str, labels: Labels, outputs: list[dict[str, Any]]) -> None:
    """Precision, recall and F1 of each label as JSON, and for single labels the confusion matrix as a picture.

    Numbers have neither.

    Raises:
        OSError: as the file system said.
    """
    if labels.problem_type is ProblemType.regression or not outputs:
        return
    mode = folder.path.stat().st_mode
    report = msgspec.json.format(msgspec.json.encode(per_class(labels, outputs)), indent=1)
    path = folder.class_report(split)
    path.parent.mkdir(mode=mode & 0o777, exist_ok=True)
    write_atomically(path, report + b"\n", mode & 0o666)
    if labels.problem_type is ProblemType.single_label_classification:
        expected, predicted = places(labels, outputs)
        counts = np.zeros((len(labels.names), len(labels.names)), np.int64)
        np.add.at(counts, (expected, predicted), 1)
        picture = folder.figure(f"confusion-{split}")
        picture.parent.mkdir(mode=mode & 0o777, exist_ok=True)
        write_atomically(picture, confusion_picture(counts, labels.names, split).encode(), mode & 0o666)
