"""Losses that jump: what counts as one, on curves of known kind."""

from __future__ import annotations

import random

import pytest

from train.metrics.spikes import ENOUGH, REMEMBERED, deviations, remembered
from train.numbers import Numbers, RollBack

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


def test_a_roll_back_begins_to_count_again() -> None:
    numbers = Numbers(left_out=[2, 6, 7, 8, 9, 10], rolled_back=[RollBack(8, 4)])
    assert (numbers.counted(), numbers.streak()) == ([9, 10], [9, 10])
    assert Numbers.of_state(numbers.as_state()) == numbers
    assert Numbers.of_state({"left_out": [1], "losses": [2.0], "jumped": True}) == Numbers([1], [2.0])  # an older run's


BACK = [RollBack(20, 10), RollBack(30, 4)]


@pytest.mark.parametrize(
    ("rolled_back", "sound", "trouble", "sought"),
    [
        ([], 7, 8, [2, 4, 6]),
        (BACK[:1], 17, 23, [2, 4, 6, 8]),
        (BACK[:1], 21, 23, [2, 4, 6, 8, 10, 22]),
        (BACK, 21, 33, [2]),
        (BACK, 33, 41, [2, 4, 32, 34, 36, 38, 40]),
    ],
    ids=["first", "at-once", "later", "at-once-again", "what-was-left-behind-is-not"],
)
def test_what_is_from_before_the_trouble(
    rolled_back: list[RollBack], sound: int, trouble: int, sought: list[int]
) -> None:
    """At once: no sound loss since the last roll back, so what it went back to is of the trouble too."""
    numbers = Numbers(sound=sound, rolled_back=rolled_back)
    assert [step for step in range(2, 44, 2) if numbers.is_before(step, trouble)] == sought
