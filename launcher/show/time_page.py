"""How the time of a plan looks: the run in its title, a step by parts, what it costs, from which figures. Pure."""

from __future__ import annotations

from conf.forecast import Forecast, Span, TimePart
from launcher.show import units

_LABEL, _AMOUNT = 24, 10


def title(time: Forecast) -> str:
    """`Time: 3 h 10 min (2 h 40 min to 4 h), 51 GPU-hours, 153 EUR`."""
    if time.run is None:
        return f"Time of a step: {seconds(time.step.likely)}; of how many is not known yet"
    said = [f"Time: {_band(time.run)}"]
    hours, price = time.device_hours, time.price
    if hours is not None:
        said.append(f"{amount(hours.likely)} {time.kind}-hours")
    if price is not None:
        said.append(f"{amount(price.likely)} ({amount(price.low)} to {amount(price.high)}) {time.currency}".rstrip())
    return ", ".join(said)


def lines(time: Forecast) -> list[str]:
    """A step with its parts, the jobs, and where the figures come from."""
    each = f", {time.tokens_per_second / time.devices:,.0f} a {time.kind}" if time.devices > 1 else ""
    mfu = f" · MFU {time.mfu:.0%}" if time.mfu is not None else ""
    step = f"a step {seconds(time.step.likely)} ({seconds(time.step.low)} to {seconds(time.step.high)})"
    found = [f"{step} · {time.tokens_per_second:,.0f} tokens/s{each}{mfu}"]
    found += _part_lines(time.parts)
    if time.around:
        found.append(f"besides the steps {seconds(sum(part.seconds for part in time.around))}")
        found += _part_lines(time.around)
    if time.jobs is not None:
        found.append(f"{time.jobs} job{'s' * (time.jobs > 1)} of the time limit")
    found.append(f"by {time.machine}")
    found.append(time.correction.in_words if time.correction else "by formula alone: no run like it was measured here")
    return [*found, *(f"not known: {text}" for text in time.unknown)]


def _part_lines(parts: list[TimePart]) -> list[str]:
    return [f"  {part.name:<{_LABEL}}{seconds(part.seconds):>{_AMOUNT}}  {part.how}".rstrip() for part in parts]


def text(time: Forecast) -> str:
    """The time in a line."""
    if time.run is None:
        return f"{seconds(time.step.likely)} a step"
    return f"{_band(time.run)}, a step {seconds(time.step.likely)}"


def seconds(value: float) -> str:
    """`0.8 ms`, `412 ms`, `3.21 s`, then as any duration."""
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 60 else units.duration(value)


def amount(value: float) -> str:
    """`0.042`, `3.1`, `51`, `12,300`: a few digits."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2g}"


def _band(span: Span) -> str:
    return f"{units.duration(span.likely)} ({units.duration(span.low)} to {units.duration(span.high)})"
