"""The model that a run hands back: the best of its evaluations where that is asked for, else the last."""

from __future__ import annotations

from train.checkpoint import checkpoint
from train.checkpoint.checkpoint import CheckpointError
from train.reload import reload
from train.training import Training


def load_best(training: Training) -> None:
    """Put the best model into the engine where that is what the run hands back; a collective.

    A checkpoint that does not verify is said, and the last model stays.
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
    reload(training, info)
    training.best_step = best.step
    training.journal.event("best_loaded", step=best.step)
