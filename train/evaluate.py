"""Evaluation: the loss over all targets of a split, each document once, with one reduction at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from train.data.batches import IGNORED, Loader
from train.distributed import World
from train.engine import Engine
from train.loss import loss_sum
from train.stop import StopVote


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean over `targets` tokens; both are over all ranks."""

    loss: float
    targets: int

    @property
    def perplexity(self) -> float:
        """e to the loss; infinite where that is beyond a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


def evaluate(
    engine: Engine,
    loader: Loader,
    micro: int,
    world: World,
    stop: StopVote,
    trims_logits: bool,
    report: Callable[[int], None],
) -> Evaluation | None:
    """The loss of a split; None where a stop was asked for meanwhile. A collective.

    Args:
        micro: documents of a micro batch (packed: rows of `data.max_length`).
        report: called with the number of micro batches done.
    """
    # Sums in fp64: a split can have more targets than fp32 counts exactly.
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)
    engine.eval()
    try:
        with torch.no_grad():
            for done, micro_batch in enumerate(loader.evaluation(micro)):
                if stop.asked() is not None:
                    return None
                sums[0] += loss_sum(engine, micro_batch, trims_logits)
                sums[1] += (micro_batch["labels"] != IGNORED).sum()
                report(done + 1)
    finally:
        engine.train()
    loss, targets = world.sum_on_device(sums).tolist()
    return Evaluation(loss / targets if targets else math.nan, int(targets))
