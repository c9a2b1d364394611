"""Answers to a split: each document once over all ranks, in batches that do not depend on the ranks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from train.data.documents import Documents
from train.generation.whole import generator
from train.tasks.task import Prediction
from train.training import Training

AT_ONCE = 8
"""Documents that a rank answers at a time, where nothing is said; the same on any number of ranks."""


@dataclass(frozen=True)
class Answers:
    """This rank's predictions, and how many tokens all ranks wrote in a second."""

    predictions: list[Prediction]
    tokens_per_second: float


def answers(training: Training, documents: Documents) -> Answers | None:
    """Ask for an answer to the first `task.max_predictions` documents; None where a stop came between; a collective.

    The model is in evaluation mode already.
    """
    task, world, generation = training.task, training.world, training.task.generation
    if generation is None:
        raise ValueError(f"{type(task).__name__} does not answer")
    count = min(len(documents), training.plan.config.task.max_predictions or len(documents))
    batches = batches_of(documents, count, training.plan.config.train.per_device_eval_batch_size or AT_ONCE)
    started, tokens, done = time.monotonic(), 0, 0
    predictions: list[Prediction] = []
    ranks_of_memory = 1 if world.device.type == "cuda" else training.plan.topology.ranks_per_node
    training.journal.phase("answer", 0, count, "documents")
    with torch.no_grad(), generator(training.engine, world, ranks_of_memory) as model:
        say_how(training, model.in_step)
        for place in range(0, len(batches), world.size):
            if training.stop.asked() is not None:
                return None
            own = batches[place + world.rank] if place + world.rank < len(batches) else []
            if own or model.in_step:
                said, written = generation.answer(model, [(number, documents[number]) for number in own])
                predictions += said
                tokens += written
            done += sum(map(len, batches[place : place + world.size]))
            training.journal.phase("answer", done, count, "documents")
    (total,) = world.sum([float(tokens)])
    return Answers(predictions, total / max(1e-9, time.monotonic() - started))


def batches_of(documents: Documents, count: int, micro: int) -> list[list[int]]:
    """The first `count` documents, `micro` of neighbouring length together, the longest first."""
    longest_first = np.argsort(-documents.lengths[:count].astype(np.int64), kind="stable").tolist()
    return [longest_first[place * micro : (place + 1) * micro] for place in range(math.ceil(count / micro))]


def say_how(training: Training, in_step: bool) -> None:
    """Once an evaluation under ZeRO-3: how answers come, since that decides their speed."""
    if training.engine.zero_stage == 3:
        how = "ranks go in step, weights are gathered for each token" if in_step else "weights are whole on every rank"
        training.journal.event("answers", text=how, in_step=in_step)
