"""By what measured runs of this site correct a plan's memory and time: those that are nearest to it. Pure.

The rule: of the kinds of likeness below the first of which there is a run counts, with its newest `NEWEST` runs. Time
is corrected by the median of their ratios. Memory by the highest, and below the formula only from `ENOUGH` runs on: one
run may have met shorter rows than another will. Memory is never carried to another architecture, stage or precision.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

from conf.estimate import CORRECTION, Moment, Need, Term
from conf.forecast import Correction
from conf.measured import Measured, describe
from launcher.facts.facts import Facts
from launcher.plan.time.machine import machine_of

if TYPE_CHECKING:
    from launcher.plan.memory.estimate import Subject

NEWEST = 20
ENOUGH = 3

Likeness = tuple[str, Callable[[Measured, Measured], bool]]


def _same(*names: str) -> Callable[[Measured, Measured], bool]:
    return lambda one, other: all(getattr(one, name) == getattr(other, name) for name in names)


_STAGE = ("device", "architecture", "stage", "precision")
_EXACT = (*_STAGE, "offload", "checkpointing", "method", "packing", "nodes")
LIKE_MEMORY: tuple[Likeness, ...] = (
    ("runs like this one", _same(*_EXACT)),
    ("same device, architecture, stage and offload", _same(*_STAGE, "offload")),
)
LIKE_TIME: tuple[Likeness, ...] = (
    *LIKE_MEMORY,
    ("same device, architecture and stage", _same(*_STAGE)),
    ("same device and architecture", _same("device", "architecture", "precision")),
    ("same device", _same("device")),
)


def record_of(subject: Subject, facts: Facts) -> Measured:
    """The subject as the ledger describes it, nothing measured yet."""
    device = machine_of(subject.config, facts, subject.topology).name
    return describe(subject.config, device, str(subject.model.get("model_type", "")), subject.packing)


def time_correction(subject: Subject, facts: Facts) -> Correction | None:
    """By what a step's time is corrected; None where no run on such a device was measured."""
    if not facts.measured:
        return None
    alike, ratios = _nearest(subject, facts, LIKE_TIME, lambda record: record.time_ratio)
    return Correction(round(statistics.median(ratios), 4), len(ratios), alike) if ratios else None


def memory_correction(subject: Subject, facts: Facts) -> Correction | None:
    """By what memory is corrected; None where no run tells, or nothing is to be corrected."""
    if not facts.measured:
        return None
    alike, ratios = _nearest(subject, facts, LIKE_MEMORY, lambda record: record.memory_ratio)
    if not ratios:
        return None
    factor = round(max(ratios), 4)
    if len(ratios) < ENOUGH:
        factor = max(1.0, factor)
    return Correction(factor, len(ratios), alike)


def _nearest(
    subject: Subject, facts: Facts, kinds: tuple[Likeness, ...], ratio_of: Callable[[Measured], float | None]
) -> tuple[str, list[float]]:
    mine = record_of(subject, facts)
    for words, alike in kinds:
        ratios = [ratio for record in facts.measured if alike(record, mine) and (ratio := ratio_of(record)) is not None]
        if ratios:
            return words, ratios[-NEWEST:]
    return "", []


def corrected_need(need: Need, correction: Correction | None) -> Need:
    """The need with a term for what measured runs say is missing from its sums, or too much in them."""
    if correction is None or correction.factor == 1.0:
        return need
    more = correction.factor - 1

    def corrected(moment: Moment) -> Moment:
        low, likely, high = (int(more * amount) for amount in (moment.low, moment.likely, moment.high))
        return Moment(moment.name, [*moment.terms, Term(CORRECTION, likely, low, high, correction.in_words, "other")])

    return Need([corrected(moment) for moment in need.moments], need.capacity, need.capacity_from, need.without)
