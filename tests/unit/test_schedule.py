"""Learning rates against transformers' schedules of the same names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from conf.schema import ScheduleConfig, Scheduler
from train.model.schedule import learning_rate, resolved_steps

TOTAL, WARMUP, DECAY, PEAK, FLOOR = 40, 5, 12, 3e-4, 0.1

CASES: dict[str, tuple[Scheduler, float, Any]] = {
    "cosine": (
        Scheduler.cosine,
        0.0,
        lambda o: transformers.get_cosine_schedule_with_warmup(o, WARMUP, TOTAL),
    ),
    "cosine with a floor": (
        Scheduler.cosine,
        FLOOR,
        lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, TOTAL, min_lr_rate=FLOOR),
    ),
    "linear": (
        Scheduler.linear,
        0.0,
        lambda o: transformers.get_linear_schedule_with_warmup(o, WARMUP, TOTAL),
    ),
    "constant": (Scheduler.constant, 0.0, lambda o: transformers.get_constant_schedule_with_warmup(o, WARMUP)),
    "warmup_stable_decay": (
        Scheduler.warmup_stable_decay,
        FLOOR,
        lambda o: transformers.get_wsd_schedule(o, WARMUP, DECAY, num_training_steps=TOTAL, min_lr_ratio=FLOOR),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_step_has_the_learning_rate_of_transformers(name: str) -> None:
    kind, floor, make = CASES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    theirs = make(optimizer)
    config = ScheduleConfig(kind, warmup_steps=WARMUP, decay_steps=DECAY, min_lr_ratio=floor)
    for step in range(1, TOTAL + 1):
        assert learning_rate(config, PEAK, step, TOTAL) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-18)
        optimizer.step()
        theirs.step()


def test_linear_keeps_above_its_floor() -> None:
    config = ScheduleConfig(Scheduler.linear, warmup_steps=0, min_lr_ratio=0.25)
    rates = [learning_rate(config, 1.0, step, 10) for step in range(1, 12)]
    assert rates[0] == 1.0
    assert rates[10] == 0.25
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("given", "total", "steps"), [(0.03, 100, 3), (0.03, 101, 4), (0.5, 1, 1), (0, 10, 0), (1, 10, 1), (7.0, 10, 7)]
)
def test_a_share_or_a_number_of_steps(given: float, total: int, steps: int) -> None:
    assert resolved_steps(given, total) == steps


def test_no_warm_up_starts_at_the_peak_and_all_warm_up_never_divides_by_zero() -> None:
    assert learning_rate(ScheduleConfig(Scheduler.cosine, warmup_steps=0), 2.0, 1, 1) == 2.0
    everything = ScheduleConfig(Scheduler.cosine, warmup_steps=10)
    assert [learning_rate(everything, 1.0, step, 10) for step in (1, 6, 10)] == [0.0, 0.5, 0.9]
