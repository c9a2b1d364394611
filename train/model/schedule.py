"""The learning rate as a function of the step: pure, and equal to transformers' schedules of the same names."""

from __future__ import annotations

import math

from conf.schema import ScheduleConfig, Scheduler


def resolved_steps(share_or_steps: float, total: int) -> int:
    """A share of all steps (below 1, rounded up) or a number of steps, as steps."""
    return math.ceil(total * share_or_steps) if share_or_steps < 1 else int(share_or_steps)


def learning_rate(config: ScheduleConfig, peak: float, step: int, total: int) -> float:
    """Learning rate of optimizer step `step`, counted from 1, of `total`.

    With a warm-up the first step has 0, as in transformers. Sources: transformers' `get_linear_schedule_with_warmup`,
    `get_cosine_with_min_lr_schedule_with_warmup`, `get_constant_schedule_with_warmup`, `get_wsd_schedule` (cosine
    decay); for `linear` the floor `min_lr_ratio` is Muster's own.
    """
    done = step - 1
    warmup = resolved_steps(config.warmup_steps, total)
    floor = config.min_lr_ratio
    stable_decay = config.lr_scheduler_type is Scheduler.warmup_stable_decay
    if done < warmup:
        share = done / warmup
        return peak * (floor + (1 - floor) * share if stable_decay else share)
    if config.lr_scheduler_type is Scheduler.constant:
        return peak
    if stable_decay:
        decay = resolved_steps(config.decay_steps, total)
        progress = (done - (total - decay)) / max(1, decay)
    else:
        progress = (done - warmup) / max(1, total - warmup)
    progress = min(1.0, max(0.0, progress))
    left = 1 - progress if config.lr_scheduler_type is Scheduler.linear else 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (floor + (1 - floor) * left)
