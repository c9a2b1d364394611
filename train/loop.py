"""The story of training: stop? → batch → forward, backward → step → log → evaluate → save.

Only choreography: everything a rank needs is in `Training`, and what surrounds a step is in modules of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import cast

import torch

from conf.outcome import State
from train.checkpoint.saving import is_save_due, look, save, wait
from train.data.batches import Step
from train.evaluation.turns import is_best_now, is_evaluation_due, reason_to_stop, validate
from train.health import on_left_out, on_logged, on_unsound
from train.metrics.window import memory
from train.model.schedule import learning_rate
from train.pulse import PULSE
from train.training import Ending, Training, stopped


def rehearse(training: Training) -> None:
    """Forward and backward on the longest micro batch, so that memory fails now; changes nothing."""
    started = time.monotonic()
    devices = [training.world.device] if training.world.device.type == "cuda" else []
    training.engine.train()
    with torch.random.fork_rng(devices=devices):
        longest = training.loader.longest()
        loss = training.task.loss_sum(training.engine, longest)
        training.engine.rehearse(loss)
        if not training.world.all_true(bool(torch.isfinite(loss))):
            # Zero times NaN is NaN, and would be added to the first step: an update that is refused takes it away.
            training.engine.backward(training.task.loss_sum(training.engine, longest) * 0.0, boundary=True)
            training.engine.step()
    seconds = round(time.monotonic() - started, 3)
    training.journal.event("rehearsal", seconds=seconds, **memory(training.world.device))


def train(training: Training) -> Ending:
    """Train from `training.progress` to the last step, or to where a stop or bad numbers end it."""
    progress = training.progress
    enough = reason_to_stop(training)
    if enough is not None:
        return Ending(State.done, progress.step, enough)
    training.engine.train()
    first = progress.step + 1
    training.window.begin()
    training.journal.phase("train", progress.step, training.total_steps, "steps")
    with training.window.pace, contextlib.closing(_steps(training, first)) as steps:
        for step, data_s in steps:
            reason = training.stop.asked()
            if reason is not None:
                return stopped(progress.step, reason)
            updated = make_step(training, step)
            progress.step = step.number
            progress.tokens_seen += step.tokens
            progress.place = step.place
            look(training)
            if step.number == first:
                training.truth.measure_memory()
            saving = updated and is_save_due(training, step.number)
            if updated:
                training.window.add_step(step, data_s)
                bad = judge(training, step, saving)
            else:
                bad = on_left_out(training, step)
            if bad is not None:
                return bad
            evaluating = is_evaluation_due(training, step.number)
            if evaluating:
                if training.plan.config.train.load_best_model_at_end:
                    wait(training)  # a model that could not be kept is no rival
                validate(training)
            if saving or is_best_now(training):
                save(training)
            if evaluating or saving:
                # What came meanwhile is heard now: one more step would need one more save.
                reason = training.stop.asked_now()
                if reason is not None:
                    return stopped(step.number, reason)
            enough = reason_to_stop(training)
            if enough is not None:
                return Ending(State.done, step.number, enough)
    return Ending(State.done, progress.step, "all steps are done")


def _steps(training: Training, first: int) -> Generator[tuple[Step, float]]:
    """Steps, each with the seconds that it was waited for."""
    started = time.monotonic()
    batches = cast("Generator[Step]", training.loader.steps(first, training.total_steps))
    with contextlib.closing(batches):
        for step in batches:
            yield step, time.monotonic() - started
            started = time.monotonic()


def make_step(training: Training, step: Step) -> bool:
    """Forward and backward over the micro batches, and the update; False where no update could be made of it."""
    config, engine = training.plan.config, training.engine
    engine.set_lr(lambda peak: learning_rate(config.schedule, peak, step.number, training.total_steps))
    # DeepSpeed averages gradients over ranks: times the world size it is their sum, over the targets of all ranks.
    scale = engine.world_size / max(1, step.target_tokens)
    last = len(step.micro_batches) - 1
    for index, micro_batch in enumerate(step.micro_batches):
        loss = training.task.loss_sum(engine, micro_batch)
        training.window.add_loss(loss)
        engine.backward(loss * scale, boundary=index == last)
        PULSE.beat()
    updated = engine.step()
    PULSE.step(step.number)
    return updated


def judge(training: Training, step: Step, saving: bool) -> Ending | None:
    """Log the step where that is due; the end of the run where its loss shows that there is no point in going on."""
    if is_due(step.number, training.plan.config.train.logging_steps, training.total_steps):
        return on_logged(training, step, log(training, step))
    # What is saved has to be worth it.
    return on_unsound(training, step, training.window.loss()) if saving else None


def log(training: Training, step: Step) -> float:
    """Write the window's metrics; returns its loss. Waits for the device; a collective."""
    config = training.plan.config
    values = training.window.read()
    values |= training.truth.hear(values)
    loss = values["train/loss"]
    training.progress.course.learn(loss)
    lr = learning_rate(config.schedule, config.optim.learning_rate, step.number, training.total_steps)
    norm = training.engine.grad_norm()
    values |= {
        "train/learning_rate": lr,
        "train/grad_norm": norm,
        "train/epoch": step.epoch,
        "train/global_step": step.number,
        "data/tokens_seen": training.progress.tokens_seen,
    }
    training.journal.metrics(step.number, values)
    if training.world.first:
        speed = f"{values['perf/tokens_per_second']:,.0f} tokens/s"
        print(
            f"step {step.number}/{training.total_steps}  loss {loss:.4f}  lr {lr:.3g}  norm {norm:.3g}  {speed}",
            flush=True,
        )
    return loss


def is_due(step: int, every: int, total: int) -> bool:
    """Whether something that happens every so many steps, and at the first and the last, happens now."""
    return step in (1, total) or (every > 0 and step % every == 0)
