"""What a sweep lets Optuna choose from, read from Hydra's override grammar. Pure.

`a,b` and `choice(…)` are choices, `range(…)` numbers a step apart, `interval(…)` all numbers between; `tag(log,…)`
spreads them over powers, `tag(int,…)` and `int(…)` make them whole. What is no sweep holds for every trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from launcher.problems import ConfigurationError, Problem

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

LOG, WHOLE, FLOAT = "log", "int", "float"
TAGS = (LOG, WHOLE, FLOAT)


@dataclass(frozen=True)
class Choices:
    """One of several values, as they are written after `key=`."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """A number from `low` to `high`, both included; `step` apart where that is given."""

    low: float
    high: float
    whole: bool = False
    logarithmic: bool = False
    step: float | None = None


Domain = Choices | Numbers
Space = Mapping[str, Domain]


def read_space(overrides: Sequence[str]) -> tuple[list[str], dict[str, Domain]]:
    """The overrides that hold for every trial, and the domain of each key that Optuna chooses.

    Raises:
        ConfigurationError: a domain is empty, or has tags that mean nothing.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    fixed: list[str] = []
    space: dict[str, Domain] = {}
    problems: list[Problem] = []
    for word in overrides:
        override = parser.parse_override(word)
        if not override.is_sweep_override():
            fixed.append(word)
            continue
        text = word.partition("=")[2]
        try:
            space[override.key_or_group] = _domain(override)
        except ValueError as error:
            problems.append(Problem(override.key_or_group, text, str(error)))
    if not space and not problems:
        problems.append(Problem("sweep.sampler", "", "has nothing to choose: give a key several values or an interval"))
    if problems:
        raise ConfigurationError(problems)
    return fixed, space


def _domain(override: Override) -> Domain:
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    value: Any = override.value()
    tags = set(value.tags)
    unknown = tags - set(TAGS)
    if unknown:
        raise ValueError(f"has the tag {', '.join(sorted(unknown))}; there are {', '.join(TAGS)}")
    if isinstance(value, IntervalSweep):
        start: Any = value.start  # int(interval(…)) has whole ends
        whole = WHOLE in tags or (isinstance(start, int) and FLOAT not in tags)
        return _numbers(float(start), float(value.end or 0.0), whole, LOG in tags, None)
    if isinstance(value, RangeSweep):
        steps = list(value.range())
        if not steps:
            raise ValueError("is an empty range")
        whole = all(isinstance(number, int) for number in steps) and FLOAT not in tags
        low, high = float(min(steps)), float(max(steps))
        return _numbers(low, high, whole, LOG in tags, None if LOG in tags else abs(float(value.step)))
    if tags:
        raise ValueError("has tags, which go with range(…) and interval(…) alone")
    return Choices(tuple(dict.fromkeys(override.sweep_string_iterator())))


def _numbers(low: float, high: float, whole: bool, logarithmic: bool, step: float | None) -> Numbers:
    if low > high:
        raise ValueError("has its larger end first")
    if logarithmic and low <= 0:
        raise ValueError("is spread over powers (log), so that it has to start above 0")
    if whole and (low != int(low) or high != int(high)):
        raise ValueError("is to be whole (int), so that its ends have to be")
    return Numbers(low, high, whole, logarithmic, step)


def written(domain: Domain, value: Any) -> str:
    """A value of a domain as it is written after `key=`: a number to six digits."""
    if isinstance(domain, Choices):
        return str(value)
    return str(int(value)) if domain.whole else f"{value:.6g}"


def in_words(domain: Domain) -> str:
    """`1e-05 to 0.001 over powers`; `zero2, zero3`."""
    if isinstance(domain, Choices):
        return ", ".join(domain.values)
    ends = f"{written(domain, domain.low)} to {written(domain, domain.high)}"
    apart = f" by {domain.step:g}" if domain.step is not None else ", whole" if domain.whole else ""
    return f"{ends}{apart}{' over powers' if domain.logarithmic else ''}"


def corners(space: Space) -> Iterator[dict[str, str]]:
    """Points to check before anything is sent: each end and each choice once, the rest at its first."""
    ends = {key: _ends(domain) for key, domain in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        for value in values[1:]:
            yield {**first, key: value}


def combinations(space: Space) -> list[dict[str, str]] | None:
    """Every combination of choices and steps; None where an interval has no end of them."""
    values: dict[str, list[str]] = {}
    for key, domain in space.items():
        if isinstance(domain, Choices):
            values[key] = list(domain.values)
        elif domain.step is None:
            return None
        else:
            count = round((domain.high - domain.low) / domain.step)
            values[key] = [written(domain, domain.low + domain.step * number) for number in range(count + 1)]
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _ends(domain: Domain) -> list[str]:
    if isinstance(domain, Choices):
        return list(domain.values)
    return list(dict.fromkeys((written(domain, domain.low), written(domain, domain.high))))
