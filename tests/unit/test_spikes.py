"""Losses that jump: what counts as one, on curves of known kind."""

from __future__ import annotations

import random

import pytest

from train.metrics.spikes import ENOUGH, REMEMBERED, deviations, remembered
from train.numbers import Numbers

FLAT = [2.0] * REMEMBERED
FALLING = [4.0 * 0.95**step for step in range(REMEMBERED)]
NOISY = [2.0 + random.Random(step).gauss(0, 0.1) for step in range(REMEMBERED)]


@pytest.mark.parametrize(
    ("losses", "loss", "jumps"),
    [
        (FLAT, 2.0, False),
        (FLAT, 2.1, False),
        (FLAT, 2.5, True),
        (FALLING, FALLING[-1], False),
        (FALLING, 20.0, True),
        (NOISY, 2.35, False),
        (NOISY, 3.5, True),
        (NOISY, 0.1, False),
    ],
    ids=["flat", "flat-rounding", "flat-jump", "falling", "falling-jump", "noise", "noise-jump", "a-drop-is-none"],
)
def test_what_counts_as_a_jump(losses: list[float], loss: float, jumps: bool) -> None:
    far = deviations(losses, loss)
    assert far is not None
    assert (far > 8.0) == jumps


def test_the_first_losses_are_not_judged_and_old_ones_forgotten() -> None:
    losses: list[float] = []
    for count in range(2 * REMEMBERED):
        assert (deviations(losses, 100.0) is None) == (count < ENOUGH)
        losses = remembered(losses, float(count))
    assert losses == [float(count) for count in range(REMEMBERED, 2 * REMEMBERED)]


@pytest.mark.parametrize(
    ("left_out", "streak"),
    [([], []), ([4], [4]), ([1, 2, 4], [4]), ([2, 4, 5, 6], [4, 5, 6])],
    ids=["none", "one", "apart", "three"],
)
def test_a_streak_is_what_was_left_out_without_a_gap(left_out: list[int], streak: list[int]) -> None:
    numbers = Numbers(left_out=left_out)
    assert numbers.streak() == streak
    assert Numbers.of_state(numbers.as_state()) == numbers
