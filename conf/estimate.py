"""How much memory a plan expects of its ranks, as it is frozen into `run.json`: sums of terms, moment by moment.

All amounts are bytes. Each has a band: `low` and `high` are what it may be, `likely` what is expected.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Term:
    """One part of a sum. `how` is how it came about, in words and numbers; `kind` the part of a bar it belongs to."""

    name: str
    likely: int
    low: int
    high: int
    how: str = ""
    kind: str = "other"


UNSEEN = frozenset({"CUDA context", "NCCL", "agent", "fragments"})
"""Terms that are no part of what a rank measures of itself: bytes that torch has allocated, its own process."""

CORRECTION = "correction"
"""The term by which measured runs correct the others."""


@dataclass(frozen=True)
class Moment:
    """What is held at one moment, of a rank or a node."""

    name: str
    terms: list[Term]

    @property
    def likely(self) -> int:
        return sum(term.likely for term in self.terms)

    @property
    def low(self) -> int:
        return sum(term.low for term in self.terms)

    @property
    def high(self) -> int:
        return sum(term.high for term in self.terms)

    def measurable(self, corrected: bool = True) -> tuple[int, int, int]:
        """Likely, low and high bytes of what a rank can measure of itself, by formula or `corrected` as well."""
        seen = [term for term in self.terms if term.name not in UNSEEN and (corrected or term.name != CORRECTION)]
        return sum(term.likely for term in seen), sum(term.low for term in seen), sum(term.high for term in seen)


@dataclass(frozen=True)
class Need:
    """Moments of which the highest decides, and what there is; `capacity` is None where nobody knows. `without` names
    what the moments leave out since nobody knows it, so that nothing surely fits."""

    moments: list[Moment]
    capacity: int | None = None
    capacity_from: str = ""
    without: str = ""

    @property
    def peak(self) -> Moment:
        """The moment that needs most."""
        return max(self.moments, key=lambda moment: moment.likely)

    @property
    def low(self) -> int:
        return max(moment.low for moment in self.moments)

    @property
    def high(self) -> int:
        return max(moment.high for moment in self.moments)

    @property
    def fits(self) -> bool | None:
        """Whether what is expected, as far as it is counted, is there; None where that is not known."""
        return None if self.capacity is None else self.peak.likely <= self.capacity

    @property
    def surely_fits(self) -> bool | None:
        """Whether even the high estimate is there."""
        return None if self.capacity is None else self.high <= self.capacity and not self.without


@dataclass(frozen=True)
class Estimate:
    """Memory of a rank's device, of a node's host, and what the run writes to disk; `unknown` says what is not counted,
    and why. With `bounded` what is trained is a generous guess, by which nothing is refused. What is free on the disk
    changes from minute to minute, so it is no part of a plan."""

    device: Need | None
    host: Need | None
    disk: Moment | None
    unknown: list[str] = field(default_factory=list)
    bounded: bool = False
