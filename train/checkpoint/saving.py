"""When and how the loop saves, and what follows once a checkpoint is there: not before."""

from __future__ import annotations

import time
from typing import Any

from conf.schema import OnSpike
from train.checkpoint import checkpoint
from train.checkpoint.arena import NoRoomError
from train.checkpoint.flight import Saved
from train.checkpoint.jobs import Retention
from train.training import Training

MOST_FAILED = 2
"""After so many saves that failed in a row the next one is written directly: a process beside may be what cannot be."""


def save(training: Training) -> None:
    """Save the present step, beside the training where that can be, unless it is saved; waits for the save before."""
    wait(training)
    if training.progress.step == training.progress.saved_step:
        return
    beside = training.saves_beside and training.failed_saves < MOST_FAILED
    if not (beside and _begin(training)):
        save_now(training)


def _begin(training: Training) -> bool:
    """Begin a save beside the training; False, said once, where there is no memory for it."""
    started = time.monotonic()
    training.journal.phase("save")
    step, state = training.progress.step, _state(training)
    try:
        ended = training.background.begin(training.engine, step, state, _retention(training))
    except NoRoomError as error:
        training.journal.warning(f"training waits while checkpoints are written: {error.strerror}")
        training.saves_beside = False
        training.background.close()
        return False
    training.window.leave_out(time.monotonic() - started)
    training.stop.deadline.saving = True
    if ended is not None:
        _conclude(training, ended)
    training.journal.phase("train", step, training.total_steps, "steps")
    return True


def save_now(training: Training) -> None:
    """Save the present step, unless it is saved, and return once it is on the disk; steps are not charged for it."""
    wait(training)
    progress = training.progress
    if progress.step == progress.saved_step:
        return
    training.journal.phase("save")
    state, retention = _state(training), _retention(training)
    saved = checkpoint.save(training.engine, training.world, training.folder, progress.step, state, retention)
    training.window.leave_out(saved.stall)
    _conclude(training, saved)
    training.journal.phase("train", progress.step, training.total_steps, "steps")


def look(training: Training) -> None:
    """See whether the save in flight has come to its end; a collective that does not wait for it.

    After the first step it also makes ready for saves to come, so that none of them has to wait for memory.
    """
    if training.saves_beside and _will_save(training):
        training.background.prepare(training.engine)
    saved = training.background.look()
    if saved is not None:
        _conclude(training, saved)


def wait(training: Training) -> None:
    """Wait for the save in flight, if one is; a collective."""
    if training.background.in_flight is None:
        return
    started = time.monotonic()
    training.journal.phase("save")
    saved = training.background.wait()
    training.window.leave_out(time.monotonic() - started)
    if saved is not None:
        _conclude(training, saved)


def _conclude(training: Training, saved: Saved) -> None:
    """What follows from a checkpoint that is there, or from one that will not be."""
    training.stop.deadline.saving = False
    if saved.error is None:
        training.failed_saves = 1 if training.failed_saves >= MOST_FAILED else 0
        training.progress.saved_step = saved.step
        if training.world.first:
            training.stop.deadline.add_save(saved.seconds, saved.bytes)
        seconds, stall = round(saved.seconds, 3), round(saved.stall, 3)
        training.journal.event("checkpoint", step=saved.step, seconds=seconds, bytes=saved.bytes, stall_s=stall)
        return
    training.failed_saves += 1
    training.journal.warning(f"no checkpoint of step {saved.step}: {saved.error}")
    course = training.progress.course
    course.contest = course.contest.without(saved.step)


def _state(training: Training) -> dict[str, Any]:
    progress = training.progress
    return {
        "run_id": training.plan.run_id,
        "attempt": training.attempt,
        "step": progress.step,
        "tokens_seen": progress.tokens_seen,
        "course": progress.course.as_state(),
        "numbers": progress.numbers.as_state(),
        "place": progress.place,
    }


def _retention(training: Training) -> Retention | None:
    """None keeps all: while it is open which checkpoint is from before trouble that a run can go back from."""
    config, numbers = training.plan.config, training.progress.numbers
    if numbers.unproven or (numbers.jumps and config.health.spike is OnSpike.roll_back):
        return None
    return Retention(config.checkpoint.save_total_limit, best_step(training))


def best_step(training: Training) -> int | None:
    """The step whose checkpoint is kept for the end; None where the last model is what the run hands back."""
    best = training.progress.course.contest.best
    return best.step if best is not None and training.plan.config.train.load_best_model_at_end else None


def is_save_due(training: Training, step: int) -> bool:
    """Whether a checkpoint is written after this step; the last one is the end's own."""
    every = training.plan.config.checkpoint.save_steps
    return every > 0 and step % every == 0 and step != training.total_steps


def _will_save(training: Training) -> bool:
    """Whether there is a save to come before the end's own."""
    config = training.plan.config
    every = config.checkpoint.save_steps
    return config.train.load_best_model_at_end or 0 < every < training.total_steps - training.progress.step
