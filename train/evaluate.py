"""Evaluation: the loss over all targets of a split, each document once, with one reduction at its end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import cast

import torch

from train.data.batches import IGNORED, Loader, MicroBatch
from train.model.loss import loss_sum
from train.training import Training


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean over `targets` tokens; both are over all ranks."""

    loss: float
    targets: int

    @property
    def perplexity(self) -> float:
        """e to the loss; infinite where that is beyond a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


def evaluate(training: Training, loader: Loader) -> Evaluation | None:
    """The loss of a split; None where a stop was asked for meanwhile. A collective.

    Its time does not count as the steps'.
    """
    started = time.monotonic()
    micro = training.plan.config.train.per_device_eval_batch_size or training.layout.batch.micro_batch_size
    # Sums in fp64: a split can have more targets than fp32 counts exactly.
    sums = torch.zeros(2, dtype=torch.float64, device=training.world.device)
    training.journal.phase("evaluate")
    training.engine.eval()
    try:
        batches = cast("Generator[MicroBatch]", loader.evaluation(micro))
        with torch.no_grad(), contextlib.closing(batches) as micro_batches:
            for done, micro_batch in enumerate(micro_batches, start=1):
                if training.stop.asked() is not None:
                    return None
                sums[0] += loss_sum(training.engine, micro_batch, training.trims_logits)
                sums[1] += (micro_batch["labels"] != IGNORED).sum()
                training.journal.phase("evaluate", done, unit="micro batches")
    finally:
        training.engine.train()
        training.window.leave_out(time.monotonic() - started)
    loss, targets = training.world.sum_on_device(sums).tolist()
    return Evaluation(loss / targets if targets else math.nan, int(targets))


def evaluate_and_record(training: Training) -> Evaluation | None:
    """Evaluate the validation split and write it down; None where there is none, or a stop came between."""
    if training.validation is None:
        return None
    result = evaluate(training, training.validation)
    progress = training.progress
    if result is not None:
        values = {"loss": result.loss, "perplexity": result.perplexity}
        training.record(progress.step, {f"eval/{name}": value for name, value in values.items()})
        training.journal.event("evaluation", step=progress.step, **values)
        if training.world.first:
            print(f"step {progress.step}/{training.total_steps}  evaluation: loss {result.loss:.4f}", flush=True)
    training.journal.phase("train", progress.step, training.total_steps, "steps")
    return result
