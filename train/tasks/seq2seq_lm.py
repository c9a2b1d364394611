"""`seq2seq_lm`: write the target of a document, from its source, by an encoder and a decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.data.documents import Document, LongArray
from train.data.tensors import IGNORED, MicroBatch
from train.evaluation.text import text_scores
from train.generation.generation import Generation
from train.model.loss import loss_sum
from train.tasks.task import Judged, Model, Prediction, Task

Shift = Callable[[Tensor], Tensor]
"""Labels (B, T) → what the decoder reads: the labels one place later, behind the token it starts from."""


class SequenceToSequence(Task):
    """A text from a text.

    Args:
        pad_id: token of padding and of empty rows.
        shift: the model's own.
        generation: how evaluations ask for answers; None: they do not.
        metrics: what answers are measured by.
    """

    def __init__(self, pad_id: int, shift: Shift, generation: Generation | None, metrics: Sequence[str]):
        self._pad_id, self._shift = pad_id, shift
        self.generation, self._metrics = generation, metrics

    def collate(self, documents: list[Document]) -> MicroBatch:
        """`input_ids`, `attention_mask` (B, source), `decoder_input_ids`, `labels` (B, target), padded on the right."""
        sources = [document.prompt for document in documents] or [np.array([self._pad_id])]
        targets = [document.ids[len(document.prompt) :] for document in documents] or [np.array([IGNORED])]
        labels = torch.from_numpy(padded(targets, IGNORED))
        return {
            "input_ids": torch.from_numpy(padded(sources, self._pad_id)),
            "attention_mask": torch.from_numpy(padded([np.ones_like(source) for source in sources], 0)),
            "decoder_input_ids": self._shift(labels),
            "labels": labels,
        }

    def loss_sum(self, model: Model, micro_batch: MicroBatch) -> Tensor:
        return loss_sum(model, micro_batch, trims_logits=False)

    def judge(self, model: Model, micro_batch: MicroBatch) -> Judged:
        return Judged(self.loss_sum(model, micro_batch), (micro_batch["labels"] != IGNORED).sum(), [])

    def scores(self, loss: float, predictions: list[Prediction]) -> dict[str, float]:
        return text_scores(predictions, self._metrics)


def padded(rows: Sequence[LongArray], value: int) -> LongArray:
    """Rows as one array, int64 (rows, longest), filled with `value` on the right."""
    result = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for row, ids in zip(result, rows, strict=True):
        row[: len(ids)] = ids
    return result


def shift_of(model: Any, pad_id: int) -> Shift:
    """How a model makes the decoder's inputs from labels; where it has no word for it, as BART does.

    Batches may be collated longer than the model is there, so that a twin without weights is asked.
    """
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        with torch.device("meta"):
            twin = type(model)(copy.deepcopy(model.config))
        return lambda labels: twin.prepare_decoder_input_ids_from_labels(labels=labels)
    start = model.config.decoder_start_token_id

    def shift(labels: Tensor) -> Tensor:
        shifted = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == IGNORED, pad_id)

    return shift
