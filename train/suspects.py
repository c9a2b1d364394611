"""The batch of a step that went wrong, kept in the attempt's folder: which documents, their tokens, the losses."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from typing import Any

import msgspec

from conf.files import write_atomically
from train.data.batches import Step
from train.data.tensors import MicroBatch
from train.training import Training


@dataclass(frozen=True)
class Suspect:
    """One rank's part of a step: its summed loss, and the file that has its batch (empty: not kept)."""

    rank: int
    host: str
    loss: float
    file: str = ""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)

    def __str__(self) -> str:
        kept = f"; its batch is in {self.file}" if self.file else ""
        return f"rank {self.rank} on {self.host} has a summed loss of {self.loss:.5g}{kept}"


def keep_suspects(
    training: Training, step: Step, losses: list[float], reason: str, of_all: bool = False
) -> list[Suspect]:
    """Each rank's part of the step; a collective. `losses` are those of this rank's micro batches.

    Kept are the batches of the ranks whose own loss is no number, and all where none is (or `of_all`).
    """
    world = training.world
    own = Suspect(world.rank, socket.gethostname(), math.fsum(losses) if _all_finite(losses) else math.nan)
    everyone = world.gather(own)
    if of_all or not own.finite or all(one.finite for one in everyone):
        own = Suspect(own.rank, own.host, own.loss, _keep(training, step, losses, reason))
    return world.gather(own)


def _all_finite(losses: list[float]) -> bool:
    return all(math.isfinite(loss) for loss in losses)


def _keep(training: Training, step: Step, losses: list[float], reason: str) -> str:
    """Write this rank's micro batches; the name of the file in the run's folder, or why there is none."""
    path = training.folder.attempt(training.attempt).suspect(step.number, training.world.rank)
    text_of = _decoder(training)
    content = {
        "step": step.number,
        "rank": training.world.rank,
        "host": socket.gethostname(),
        "reason": reason,
        "micro_batches": [
            _plain(batch, loss, text_of) for batch, loss in zip(step.micro_batches, losses, strict=False)
        ],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.parent.stat().st_mode & 0o666
        write_atomically(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n", mode)
    except OSError as error:
        return f"(not kept: {error.strerror})"
    return str(path.relative_to(training.folder.path))


def _plain(batch: MicroBatch, loss: float, text_of: Any) -> dict[str, Any]:
    rows = batch["input_ids"].tolist()
    return {
        "loss": loss if math.isfinite(loss) else str(loss),
        "documents": list(batch["documents"]),
        "input_ids": rows,
        "text": [text_of(row) for row in rows],
    }


def _decoder(training: Training) -> Any:
    """The run's tokenizer as a function from tokens to text; of none where it does not load."""
    from transformers import AutoTokenizer

    trusted = training.plan.config.model.trust_remote_code
    try:
        return AutoTokenizer.from_pretrained(training.folder.model, trust_remote_code=trusted).decode
    except Exception:  # whatever a tokenizer raises: the tokens are kept all the same
        return lambda row: ""
