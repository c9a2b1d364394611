"""`predictions/SPLIT.jsonl`: what a model made of each document, one JSON object a line, in the order of the split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from conf.files import write_atomically
from train.data.documents import LINE, Documents
from train.evaluation.class_report import write_class_report
from train.evaluation.evaluate import Evaluation
from train.tasks.seq_cls import SequenceClassification
from train.tasks.task import Prediction
from train.training import Training


def write_predictions(training: Training, split: str, evaluation: Evaluation, before: bool = False) -> None:
    """Write the predictions of an evaluation on rank 0, of labels with a report; nothing where the task makes none.

    Those from `before` training get a file of their own, without a report. A full disk is said.
    """
    loader = training.validation if split == "validation" else training.test
    if not training.world.first or not evaluation.predictions or loader is None:
        return
    path = training.folder.predictions(f"{split}-before" if before else split)
    content = b"".join(
        msgspec.json.encode(line) + b"\n" for line in prediction_lines(evaluation.predictions, loader.documents)
    )
    mode = training.folder.path.stat().st_mode
    try:
        path.parent.mkdir(mode=mode & 0o777, exist_ok=True)
        write_atomically(path, content, mode & 0o666)
        if isinstance(training.task, SequenceClassification) and not before:
            outputs = [one.output for one in evaluation.predictions]
            write_class_report(training.folder, split, training.task.labels, outputs)
    except OSError as error:
        training.journal.warning(f"no predictions of {split}: {error.strerror or error}")


def prediction_lines(predictions: Iterable[Prediction], documents: Documents) -> Iterator[dict[str, Any]]:
    """A mapping for each prediction: its document, the row of the source, and the output.

    An output that is a mapping is taken as it is, such as `{"prediction": …, "reference": …}`.
    """
    rows = documents.columns.get(LINE)
    for one in predictions:
        line: dict[str, Any] = {"document": one.document}
        if rows is not None:
            line["row"] = int(rows[one.document])
        yield line | (one.output if isinstance(one.output, dict) else {"prediction": one.output})
