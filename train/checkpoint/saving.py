"""When and how the loop saves."""

from __future__ import annotations

from typing import Any

from train.checkpoint import checkpoint
from train.training import Training


def save(training: Training) -> None:
    """Write a checkpoint of the present step unless there is one; its time does not count as the steps'."""
    progress = training.progress
    if progress.step == progress.saved_step:
        return
    training.journal.phase("save")
    state: dict[str, Any] = {
        "run_id": training.plan.run_id,
        "attempt": training.attempt,
        "step": progress.step,
        "tokens_seen": progress.tokens_seen,
        "course": progress.course.as_state(),
        "place": progress.place,
    }
    saved = checkpoint.save(training.engine, training.world, training.folder, progress.step, state)
    if saved.error is None:
        progress.saved_step = progress.step
        training.journal.event("checkpoint", step=progress.step, seconds=round(saved.seconds, 3), bytes=saved.bytes)
        checkpoint.prune(
            training.folder, training.world, training.plan.config.checkpoint.save_total_limit, best_step(training)
        )
    else:
        training.journal.event("warning", text=f"no checkpoint of step {progress.step}: {saved.error}")
        progress.course.contest = progress.course.contest.without(progress.step)
    training.window.leave_out(saved.seconds)
    training.journal.phase("train", progress.step, training.total_steps, "steps")


def best_step(training: Training) -> int | None:
    """The step whose checkpoint is kept for the end; None where the last model is what the run hands back."""
    best = training.progress.course.contest.best
    return best.step if best is not None and training.plan.config.train.load_best_model_at_end else None


def is_save_due(training: Training, step: int) -> bool:
    """Whether a checkpoint is written after this step; the last one is the end's own."""
    every = training.plan.config.checkpoint.save_steps
    return every > 0 and step % every == 0 and step != training.total_steps
