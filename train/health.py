"""Steps whose gradient is no number, and losses that jump: noticed by all ranks alike, said, and kept for a look.

What does not pass ends the run, or takes it back to a checkpoint from before.

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
from train.roll_back import roll_back
from train.suspects import Suspect, keep_suspects
from train.training import Ending, Training

IN_A_ROW = 3
"""Steps without an update, or logged losses too high, after which it is the weights that are broken and no document."""


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
    count, budget, streak = len(numbers.counted()), config.health.max_skipped_steps, numbers.streak()
    if config.health.non_finite is NonFinite.end:
        return _failed(step, f"{where} (health.non_finite=end)", guilty)
    if len(streak) < IN_A_ROW and count <= budget:
        text = f"{where}: left out, {count} of at most {budget}"
        _say(training, text, about="non_finite", step=step.number, rank=guilty.rank, host=guilty.host)
        return None
    if len(streak) >= IN_A_ROW:
        steps = ", ".join(str(number) for number in streak)
        reason = f"{where}, as at each of the steps {steps}: the weights are broken"
    else:
        reason = f"{where}, and health.max_skipped_steps={budget} were left out before"
    return _ended(training, step, streak[0], reason, guilty, config.health.non_finite is NonFinite.roll_back)


def on_logged(training: Training, step: Step, loss: float) -> Ending | None:
    """What follows from the loss of a logged window: nothing, unless it is no number or far above those before; a
    collective.
    """
    numbers, policy = training.progress.numbers, training.plan.config.health
    if not math.isfinite(loss):
        return on_unsound(training, step, loss)
    far = deviations(numbers.losses, loss)
    numbers.losses = remembered(numbers.losses, loss)
    if far is None or far <= policy.spike_factor:
        numbers.jumps, numbers.sound = 0, step.number
        return None
    numbers.jumps += 1
    lasts = policy.spike is OnSpike.roll_back and numbers.jumps >= IN_A_ROW
    if policy.spike is OnSpike.ignore or not (numbers.jumps == 1 or lasts):
        return None
    return _on_jump(training, step, f"the loss jumps to {loss:.4f} at step {step.number}, {far:.1f} deviations", lasts)


def _on_jump(training: Training, step: Step, what: str, lasts: bool) -> Ending | None:
    suspects = keep_suspects(training, step, training.window.last_losses(), what, of_all=True)
    highest = max(suspects, key=lambda one: one.loss)
    text = f"{what} above those before, {highest}"
    if lasts:
        sound = training.progress.numbers.sound
        return _ended(training, step, sound + 1, f"{text}, and has not come down since step {sound}", highest, True)
    if training.plan.config.health.spike is OnSpike.end:
        return _failed(step, f"{text} (health.spike=end)", highest)
    _say(training, text, about="spike", step=step.number, rank=highest.rank, host=highest.host)
    return None


def on_unsound(training: Training, step: Step, loss: float) -> Ending | None:
    """What follows from a loss that is no number although its gradient was one; a collective."""
    if math.isfinite(loss):
        return None
    suspect = Suspect(0, "", loss)
    may = training.plan.config.health.non_finite is NonFinite.roll_back
    trouble = training.progress.numbers.sound + 1
    return _ended(training, step, trouble, f"the loss is not finite at step {step.number}", suspect, may)


def _ended(
    training: Training, step: Step, trouble: int, reason: str, suspect: Suspect, may_go_back: bool
) -> Ending | None:
    """The end of the run; None where it may go back, and went back to a checkpoint from before step `trouble`."""
    if not may_go_back:
        return _failed(step, reason, suspect)
    done, most = len(training.progress.numbers.rolled_back), training.plan.config.health.max_roll_backs
    if done >= most:
        return _failed(step, f"{reason}; health.max_roll_backs={most} were made before", suspect)
    went = roll_back(training, step.number, trouble)
    if went is None:
        return _failed(step, f"{reason}; there is no checkpoint from before it to go back to", suspect)
    text = (
        f"{reason}. Rolled back to the checkpoint of step {went.to}, {done + 1} of at most {most}; the documents of "
        f"the steps {went.to + 1} to {went.at} are left behind, it goes on with those of step {went.at + 1}"
    )
    _say(training, text, about="roll_back", step=went.at, to=went.to, rank=suspect.rank, host=suspect.host)
    return None


def _failed(step: Step, reason: str, suspect: Suspect) -> Ending:
    return Ending(State.failed, step.number, reason, suspect.rank, suspect.host)


def _say(training: Training, text: str, **values: Any) -> None:
    training.journal.event("warning", text=text, **values)
    if training.world.first:
        print(f"warning: {text}", flush=True)
