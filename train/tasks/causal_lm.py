"""`causal_lm`: predict the next token of a document, where the token is a target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from train.data.documents import Document
from train.data.tensors import IGNORED, MicroBatch, packed_batch, padded_batch, target_positions
from train.evaluation.text import text_scores
from train.generation.generation import Generation
from train.model.loss import loss_sum
from train.tasks.task import Judged, Model, Prediction, Task


class CausalLanguageModelling(Task):
    """The next token.

    Args:
        pad_id: token of padding and of empty rows.
        packed: documents of a micro batch lie end to end in one row.
        trims_logits: the model's forward pass can leave out logits of positions without a target.
        generation: how evaluations ask for answers; None: they do not.
        metrics: what answers are measured by.
    """

    def __init__(
        self,
        pad_id: int,
        packed: bool,
        trims_logits: bool,
        generation: Generation | None = None,
        metrics: Sequence[str] = (),
    ):
        self._pad_id, self._packed, self._trims_logits = pad_id, packed, trims_logits
        self.generation, self._metrics = generation, metrics

    def collate(self, documents: list[Document]) -> MicroBatch:
        batch = (packed_batch if self._packed else padded_batch)(documents, self._pad_id)
        # Found here and not on the device, where finding them would wait for it.
        batch["target_positions"] = target_positions(batch["labels"])
        return batch

    def loss_sum(self, model: Model, micro_batch: MicroBatch) -> Tensor:
        return loss_sum(model, micro_batch, self._trims_logits)

    def judge(self, model: Model, micro_batch: MicroBatch) -> Judged:
        return Judged(self.loss_sum(model, micro_batch), (micro_batch["labels"] != IGNORED).sum(), [])

    def scores(self, loss: float, predictions: list[Prediction]) -> dict[str, float]:
        return {"perplexity": perplexity(loss), **text_scores(predictions, self._metrics)}


def perplexity(loss: float) -> float:
    """e to the loss; infinite where that is beyond a float."""
    return math.exp(loss) if loss < 700 else math.inf
