"""How long a plan expects its run to take, as it is frozen into `run.json`: a step by parts, then the whole run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """Seconds: what is expected, and between which it may be."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Span:
        """The span, `factor` times as long."""
        return Span(self.low * factor, self.likely * factor, self.high * factor)

    def plus(self, seconds: float) -> Span:
        """The span with what comes on top in any case."""
        return Span(self.low + seconds, self.likely + seconds, self.high + seconds)


@dataclass(frozen=True)
class TimePart:
    """Likely seconds of a part of a step, not hidden behind others, or of a run; and how they came about."""

    name: str
    seconds: float
    how: str = ""


@dataclass(frozen=True)
class Correction:
    """By which a formula is corrected after `runs` measured ones; `alike` says what they share with this plan."""

    factor: float
    runs: int
    alike: str

    @property
    def in_words(self) -> str:
        """`corrected by 3 runs on this site: ×1.07 (same GPU, architecture and stage)`."""
        return f"corrected by {self.runs} run{'s' * (self.runs > 1)} on this site: ×{self.factor:.2f} ({self.alike})"


@dataclass(frozen=True)
class Forecast:
    """The time of a run. `devices` of a kind (`GPU`, `node`) work on it, which has a price where the site gives one.

    `step` is a step after the correction, `run` everything from the first job's start to the end; None where the number
    of steps is not known. `around` is what of it comes before the steps and after them. `tokens` are the useful ones of
    a step. `jobs` are needed for the time limit, None without one. `machine` says by which figures.
    """

    step: Span
    parts: list[TimePart]
    tokens: float
    devices: int
    kind: str
    machine: str
    mfu: float | None = None
    run: Span | None = None
    around: list[TimePart] = field(default_factory=list)
    jobs: int | None = None
    rate: float | None = None
    currency: str = ""
    correction: Correction | None = None
    unknown: list[str] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens of all ranks."""
        return self.tokens / self.step.likely

    @property
    def formula_step_s(self) -> float:
        """Seconds of a step by formula alone, to which measured ones are compared."""
        return self.step.likely / (self.correction.factor if self.correction else 1.0)

    @property
    def device_hours(self) -> Span | None:
        """GPU-hours of the run, or hours of its nodes."""
        return None if self.run is None else self.run.times(self.devices / 3600)

    @property
    def price(self) -> Span | None:
        """What the run costs, in `currency`; None where the site gives no rate."""
        hours = self.device_hours
        return None if hours is None or self.rate is None else hours.times(self.rate)
