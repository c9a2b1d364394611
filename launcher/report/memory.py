"""The memory and the time that were planned beside what was measured. Pure."""

from __future__ import annotations

from conf.estimate import Need
from conf.record import Plan
from launcher.report import frame
from launcher.runs.predicted import Compared
from launcher.runs.series import Series
from launcher.show import units

GIB = 1 << 30


def memory_parts(plan: Plan, series: Series) -> list[str]:
    """A table of both, and the terms of the highest moment."""
    if plan.memory is None:
        return []
    rows = []
    for name, need, measured in (
        ("a rank's GPU", plan.memory.device, _highest(series, "mem/gpu_peak_gib")),
        ("a node's host", plan.memory.host, None),
    ):
        if need is not None:
            rows.append(_row(name, need, measured))
    host = _highest(series, "mem/host_peak_gib")
    if host is not None:
        rows.append(("of it rank 0", "", "", "", f"{host:.2f} GiB"))
    head = ("memory", "planned", "from – to", "there is", "measured, highest")
    parts = [frame.table(head, rows)]
    for name, need in (("a rank's GPU", plan.memory.device), ("a node's host", plan.memory.host)):
        if need is not None:
            parts.append(frame.more(f"what {name} holds at its peak ({need.peak.name})", _terms(need)))
    return parts


def compared_table(memory: Compared | None, step_time: Compared | None) -> str:
    """What the plan said of memory after the first step and of the time of a step, and how it came out."""
    rows = []
    for name, found, form in (
        ("memory after the first step", memory, units.size),
        ("time of a step", step_time, lambda seconds: f"{seconds:.3g} s"),
    ):
        if found is not None:
            band = f"{form(found.low)} – {form(found.high)}"
            verdict = f"{found.ratio:.0%} of the plan{'' if found.within else ', outside its band'}"
            rows.append((name, form(found.predicted), band, form(found.measured), verdict))
    return frame.table(("", "planned", "from – to", "measured", ""), rows)


def _row(name: str, need: Need, measured: float | None) -> tuple[str, ...]:
    there = f"{units.size(need.capacity)}, {need.capacity_from}" if need.capacity else "not known"
    seen = "" if measured is None else f"{measured:.2f} GiB"
    return name, units.size(need.peak.likely), f"{units.size(need.low)} – {units.size(need.high)}", there, seen


def _terms(need: Need) -> str:
    rows = [(term.name, units.size(term.likely), term.how) for term in need.peak.terms if term.high]
    return frame.table(("part", "expected", "how it comes about"), rows)


def _highest(series: Series, name: str) -> float | None:
    return max((value for _, value in series.points.get(name, [])), default=None)
