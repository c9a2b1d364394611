"""Steps whose gradient is no number, and losses that jump: noticed by all ranks alike, said, and kept for a look.

The gradient's norm is one number over all ranks, so they agree without asking each other. An update that is left out
costs the step's documents and nothing else: their order follows from seed and epoch alone.
"""

from __future__ import annotations

import math
from typing import Any

from conf.outcome import State
from conf.schema import NonFinite, OnSpike, Precision
from train.data.batches import Step
from train.metrics.spikes import deviations, remembered
from train.suspects import Suspect, keep_suspects
from train.training import Ending, Training

IN_A_ROW = 3
"""Steps without an update after which it is the weights that are broken, and no document."""


def on_left_out(training: Training, step: Step) -> Ending | None:
    """What follows from a step whose gradient was not finite, and which changed nothing; a collective.

    With fp16 that is how DeepSpeed finds its loss scale, and no incident.
    """
    config, numbers = training.plan.config, training.progress.numbers
    losses = training.window.drop_step()
    if config.train.precision is Precision.fp16:
        return None
    numbers.left_out.append(step.number)
    norm = training.engine.grad_norm()
    suspects = keep_suspects(training, step, losses, f"gradient norm {norm}")
    guilty = next((one for one in suspects if not one.finite), suspects[0])
    where = f"the gradient is not finite at step {step.number}, {guilty}"
    count, budget, streak = len(numbers.left_out), config.health.max_skipped_steps, numbers.streak()
    if config.health.non_finite is NonFinite.end:
        return _failed(step, f"{where} (health.non_finite=end)", guilty)
    if len(streak) >= IN_A_ROW:
        steps = ", ".join(str(number) for number in streak)
        return _failed(step, f"{where}, as at each of the steps {steps}: the weights are broken", guilty)
    if count > budget:
        return _failed(step, f"{where}, and health.max_skipped_steps={budget} were left out before", guilty)
    text = f"{where}: left out, {count} of at most {budget}"
    _say(training, text, about="non_finite", step=step.number, rank=guilty.rank, host=guilty.host)
    return None


def on_logged(training: Training, step: Step, loss: float) -> Ending | None:
    """What follows from the loss of a logged window: nothing, unless it is no number or far above those before; a
    collective.
    """
    numbers, policy = training.progress.numbers, training.plan.config.health
    if not math.isfinite(loss):
        return on_unsound(step, loss)
    far = deviations(numbers.losses, loss)
    numbers.losses = remembered(numbers.losses, loss)
    before, numbers.jumped = numbers.jumped, far is not None and far > policy.spike_factor
    if far is None or not numbers.jumped or before or policy.spike is OnSpike.ignore:
        return None
    suspects = keep_suspects(training, step, training.window.last_losses(), f"loss {loss}", of_all=True)
    highest = max(suspects, key=lambda one: one.loss)
    text = f"the loss jumps to {loss:.4f} at step {step.number}, {far:.1f} deviations above those before, {highest}"
    if policy.spike is OnSpike.end:
        return _failed(step, f"{text} (health.spike=end)", highest)
    _say(training, text, about="spike", step=step.number, rank=highest.rank, host=highest.host)
    return None


def on_unsound(step: Step, loss: float) -> Ending | None:
    """The end of the run where a loss is no number although its gradient was one."""
    if math.isfinite(loss):
        return None
    return Ending(State.failed, step.number, f"the loss is not finite at step {step.number}")


def _failed(step: Step, reason: str, suspect: Suspect) -> Ending:
    return Ending(State.failed, step.number, reason, suspect.rank, suspect.host)


def _say(training: Training, text: str, **values: Any) -> None:
    training.journal.event("warning", text=text, **values)
    if training.world.first:
        print(f"warning: {text}", flush=True)
