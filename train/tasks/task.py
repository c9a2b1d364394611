"""What every task is to the loop, the loader and the evaluation: tensors, a loss, predictions and scores.

A task knows its model's inputs and outputs. It does not know ranks, steps, files or DeepSpeed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from train.data.documents import Document
from train.data.tensors import MicroBatch

if TYPE_CHECKING:
    from train.generation.generation import Generation

Model = Callable[..., Any]
"""Called with the inputs of a micro batch as keywords; returns an object with `logits`. An `Engine` is one."""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one document: its place in the split, and the output, which JSON can hold."""

    document: int
    output: Any


@dataclass(frozen=True)
class Judged:
    """One micro batch of an evaluation: sum of the losses of its targets (fp32, no dimensions), their number, and
    what was predicted along the way."""

    loss_sum: Tensor
    targets: Tensor | int
    predictions: list[Prediction]


class Task(ABC):
    """One task on one model.

    Attributes:
        generation: how evaluations ask for answers; None where they do not. A prediction is then
            `{"prediction": text, "reference": text}`.
    """

    generation: Generation | None = None

    @abstractmethod
    def collate(self, documents: list[Document]) -> MicroBatch:
        """The tensors of a micro batch; no documents at all become a row without a target."""

    @abstractmethod
    def loss_sum(self, model: Model, micro_batch: MicroBatch) -> Tensor:
        """Sum of the losses over the micro batch's targets, fp32, without dimensions; 0 where there is none."""

    @abstractmethod
    def judge(self, model: Model, micro_batch: MicroBatch) -> Judged:
        """The same with the number of targets and, where the same forward pass gives them, predictions."""

    def scores(self, loss: float, predictions: list[Prediction]) -> dict[str, float]:
        """Metrics by name, from the mean loss and all predictions of a split in the order of its documents."""
        return {}


def documents_of(micro_batch: MicroBatch) -> tuple[int, ...]:
    """Places in the split of a micro batch's documents, in the order of its rows; none for an empty one."""
    return tuple(micro_batch.get("documents", ()))
