"""The story of training: stop? → batch → forward, backward → step → log → evaluate → save.

Only choreography: everything a rank needs is in `Training`, and what surrounds a step is in modules of its own.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator
from typing import cast

import torch

from conf.outcome import State
from conf.schema import Precision
from train.checkpoint.saving import is_save_due, look, save, wait
from train.data.batches import Step
from train.evaluation.turns import is_best_now, is_evaluation_due, reason_to_stop, validate
from train.metrics.window import memory
from train.model.schedule import learning_rate
from train.pulse import PULSE
from train.training import Ending, Training, not_a_number, stopped


def rehearse(training: Training) -> None:
    """Forward and backward on the longest micro batch, so that memory fails now; changes nothing."""
    started = time.monotonic()
    devices = [training.world.device] if training.world.device.type == "cuda" else []
    training.engine.train()
    with torch.random.fork_rng(devices=devices):
        loss = training.task.loss_sum(training.engine, training.loader.longest())
        training.engine.rehearse(loss)
    seconds = round(time.monotonic() - started, 3)
    training.journal.event("rehearsal", seconds=seconds, **memory(training.world.device))


def train(training: Training) -> Ending:
    """Train from `training.progress` to the last step, or to where a stop or a loss that is no number ends it."""
    progress = training.progress
    enough = reason_to_stop(training)
    if enough is not None:
        return Ending(State.done, progress.step, enough)
    training.engine.train()
    training.window.begin()
    training.journal.phase("train", progress.step, training.total_steps, "steps")
    with training.window.pace, contextlib.closing(_steps(training, progress.step + 1)) as steps:
        for step, data_s in steps:
            reason = training.stop.asked()
            if reason is not None:
                return stopped(progress.step, reason)
            make_step(training, step)
            training.window.add_step(step, data_s)
            progress.step = step.number
            progress.tokens_seen += step.tokens
            progress.place = step.place
            look(training)
            saving = is_save_due(training, step.number)
            if is_due(step.number, training.plan.config.train.logging_steps, training.total_steps):
                finite = log(training, step)
            else:
                finite = not saving or is_finite(training, training.window.loss())
            if not finite:
                return not_a_number(step.number)
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


def make_step(training: Training, step: Step) -> None:
    """Forward and backward over the micro batches, and the update."""
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
    engine.step()
    PULSE.step(step.number)


def is_finite(training: Training, loss: float) -> bool:
    """Whether loss and gradient are numbers, the same on all ranks; waits for the device.

    DeepSpeed leaves out a step whose gradient is not finite, without a word; with fp16 that is how it finds its scale.
    """
    norm_counts = training.plan.config.train.precision is not Precision.fp16
    return math.isfinite(loss) and (not norm_counts or math.isfinite(training.engine.grad_norm()))


def log(training: Training, step: Step) -> bool:
    """Write the window's metrics; returns `is_finite`. Waits for the device; a collective."""
    config = training.plan.config
    values = training.window.read()
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
    training.record(step.number, values)
    if training.world.first:
        speed = f"{values['perf/tokens_per_second']:,.0f} tokens/s"
        print(
            f"step {step.number}/{training.total_steps}  loss {loss:.4f}  lr {lr:.3g}  norm {norm:.3g}  {speed}",
            flush=True,
        )
    return is_finite(training, loss)


def is_due(step: int, every: int, total: int) -> bool:
    """Whether something that happens every so many steps, and at the first and the last, happens now."""
    return step in (1, total) or (every > 0 and step % every == 0)
