"""The model that a run hands back: the best of its evaluations where that is asked for, else the last."""

from __future__ import annotations

import gc

import torch

from train.assembly import assemble
from train.checkpoint import checkpoint
from train.checkpoint.checkpoint import CheckpointError
from train.data.prepared import read_prepared
from train.training import Training


def load_best(training: Training) -> None:
    """Put the best model into the engine where that is what the run hands back; a collective.

    Its checkpoint goes into a new engine. One that does not verify is said, and the last model stays.
    """
    best = training.progress.course.contest.best
    if not training.plan.config.train.load_best_model_at_end or best is None:
        return
    if best.step == training.progress.step:
        training.best_step = best.step
        return
    try:
        info = checkpoint.at_step(training.folder, training.world, best.step)
    except CheckpointError as error:
        training.journal.event("warning", text=f"the last model is handed back instead of the best: {error}")
        return
    training.journal.phase("load")
    # The old engine's memory is needed for the new one.
    training.engine.close()
    del training.engine, training.task
    gc.collect()
    if training.world.device.type == "cuda":
        torch.cuda.empty_cache()
    data = read_prepared(training.folder)
    assembly = assemble(training.plan, training.layout, training.folder, data, training.world)
    training.engine, training.task = assembly.engine, assembly.task
    checkpoint.load(training.engine, info, training.world, training.journal)
    training.best_step = best.step
    training.journal.event("best_loaded", step=best.step)
