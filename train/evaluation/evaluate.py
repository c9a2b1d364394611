"""Evaluation: the loss and the task's metrics over a split, each document once, with one reduction at its end."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import cast

import torch

from train.data.batches import Loader, MicroBatch
from train.evaluation.answers import answers
from train.tasks.task import Prediction
from train.training import Training


@dataclass(frozen=True)
class Evaluation:
    """`values` are metrics by name, `loss` (the mean over `targets`) among them; all are over all ranks.

    `predictions` are in the order of the documents, on rank 0 alone; `seconds` is what all of it took.
    """

    values: dict[str, float]
    targets: int
    predictions: list[Prediction]
    documents: int
    seconds: float

    @property
    def loss(self) -> float:
        return self.values["loss"]


def evaluate(training: Training, loader: Loader) -> Evaluation | None:
    """The metrics of a split; None where a stop was asked for meanwhile. A collective.

    Its time does not count as the steps'.
    """
    started = time.monotonic()
    micro = training.plan.config.train.per_device_eval_batch_size or training.layout.batch.micro_batch_size
    # Sums in fp64: a split can have more targets than fp32 counts exactly.
    predictions: list[Prediction] = []
    sums = torch.zeros(2, dtype=torch.float64, device=training.world.device)
    training.journal.phase("evaluate")
    training.engine.eval()
    try:
        batches = cast("Generator[MicroBatch]", loader.evaluation(micro))
        with torch.no_grad(), contextlib.closing(batches) as micro_batches:
            for done, micro_batch in enumerate(micro_batches, start=1):
                if training.stop.asked() is not None:
                    return None
                judged = training.task.judge(training.engine, micro_batch)
                sums[0] += judged.loss_sum
                sums[1] += judged.targets
                predictions += judged.predictions
                training.journal.phase("evaluate", done, unit="micro batches")
        answered = None
        if training.task.generation is not None:
            answered = answers(training, loader.documents)
            if answered is None:
                return None
    finally:
        training.engine.train()
        training.window.leave_out(time.monotonic() - started)
    if answered is not None:
        predictions += answered.predictions
    total, targets = training.world.sum_on_device(sums).tolist()
    loss = total / targets if targets else math.nan
    gathered = sorted(itertools.chain(*training.world.gather(predictions)), key=lambda one: one.document)
    scores = training.world.said_by_first(training.task.scores(loss, gathered) if training.world.first else {})
    speed = {} if answered is None else {"generated_tokens_per_second": answered.tokens_per_second}
    predictions = gathered if training.world.first else []
    seconds = max(time.monotonic() - started, 1e-9)
    return Evaluation({"loss": loss, **scores, **speed}, int(targets), predictions, len(loader.documents), seconds)
