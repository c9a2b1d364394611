"""`seq_cls`: one label, several or numbers for a text, by a head on the model.

A document is one target: its loss is the cross entropy of its label, or the mean over labels (binary cross entropy) or
numbers (squared error). Micro batches have `labels` int64 (documents,) or float32 (documents, width); an empty one has
none of them and one row of padding, whose logits count nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conf.schema import ProblemType
from train.data.documents import Document
from train.data.prepared import Labels
from train.data.tensors import MicroBatch, inputs_of, padded_batch
from train.evaluation import classification
from train.tasks.task import Judged, Model, Prediction, Task, documents_of

DIGITS = 6
"""Of probabilities and numbers in predictions."""


class SequenceClassification(Task):
    """Labels or numbers for texts.

    Args:
        pad_id: token of padding and of empty rows.
        labels: what is told apart.
        weights: factor of each label's loss, by the model's outputs; None where all are 1.
        token_types: the model tells the second text of a document from the first.
    """

    def __init__(self, pad_id: int, labels: Labels, weights: list[float] | None, token_types: bool):
        self._pad_id, self.labels, self._token_types = pad_id, labels, token_types
        self._weights = None if weights is None else torch.tensor(weights)
        self._kind = labels.problem_type

    def collate(self, documents: list[Document]) -> MicroBatch:
        batch = padded_batch(documents, self._pad_id)
        if self._token_types:
            types = torch.zeros_like(batch["input_ids"])
            for row, document in enumerate(documents):
                types[row, : len(document.ids)] = torch.from_numpy(document.target_mask)
            batch["token_type_ids"] = types
        width = 1 if self._kind is ProblemType.single_label_classification else len(self.labels.names)
        labels = torch.zeros(len(documents), width)
        for row, document in enumerate(documents):
            labels[row] = torch.from_numpy(document.label)
        batch["labels"] = labels[:, 0].long() if width == 1 and self._kind is not ProblemType.regression else labels
        return batch

    def loss_sum(self, model: Model, micro_batch: MicroBatch) -> Tensor:
        return self._loss_of(self._logits(model, micro_batch), micro_batch["labels"])

    def judge(self, model: Model, micro_batch: MicroBatch) -> Judged:
        logits, labels = self._logits(model, micro_batch), micro_batch["labels"]
        made = zip(documents_of(micro_batch), self._outputs(logits.cpu(), labels.cpu()), strict=True)
        predictions = [Prediction(document, output) for document, output in made]
        return Judged(self._loss_of(logits, labels), len(labels), predictions)

    def scores(self, loss: float, predictions: list[Prediction]) -> dict[str, float]:
        return classification.scores(self.labels, [prediction.output for prediction in predictions])

    def _logits(self, model: Model, micro_batch: MicroBatch) -> Tensor:
        """fp32 (documents, outputs); none of the row that fills an empty micro batch, which backward still reaches."""
        logits: Tensor = model(**inputs_of(micro_batch)).logits
        return logits[: len(micro_batch["labels"])].float()

    def _loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._weights is not None and self._weights.device != logits.device:
            self._weights = self._weights.to(logits.device)
        if self._kind is ProblemType.single_label_classification:
            return functional.cross_entropy(logits, labels, self._weights, reduction="sum")
        if self._kind is ProblemType.multi_label_classification:
            each = functional.binary_cross_entropy_with_logits(logits, labels, self._weights, reduction="none")
        else:
            each = functional.mse_loss(logits, labels, reduction="none")
        return each.sum() / each.shape[1]

    def _outputs(self, logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
        """What is expected of each document and what the model said, for people and JSON."""
        names = self.labels.names
        if self._kind is ProblemType.single_label_classification:
            shares, chosen = logits.softmax(1).max(1)
            rows = zip(labels.tolist(), chosen.tolist(), shares.tolist(), strict=True)
            return [
                {"reference": names[right], "prediction": names[said], "probability": round(share, DIGITS)}
                for right, said, share in rows
            ]
        if self._kind is ProblemType.multi_label_classification:
            shares = logits.sigmoid()
            return [
                {
                    "reference": [name for name, holds in zip(names, right, strict=True) if holds],
                    "prediction": [name for name, share in zip(names, said, strict=True) if share > 0.5],
                    "probabilities": {name: round(share, DIGITS) for name, share in zip(names, said, strict=True)},
                }
                for right, said in zip(labels.tolist(), shares.tolist(), strict=True)
            ]
        return [
            {"reference": right, "prediction": said}
            for right, said in zip(labels.tolist(), logits.tolist(), strict=True)
        ]


def takes_token_types(model: Any) -> bool:
    """Whether a model tells a second text from the first by `token_type_ids`."""
    several = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
    return several and "token_type_ids" in inspect.signature(model.forward).parameters
