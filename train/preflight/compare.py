"""What shows only beside the other nodes: other versions, another GPU, another time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from conf.preflight import Check, Preflight
from conf.schema import PreflightConfig

COMPARED = {
    "versions": ("python", "versions", "gpu_driver"),
    "gpu_model": ("gpu_model",),
}
"""Checks, and the facts that have to be the same on all nodes."""


def compared(nodes: Sequence[Preflight], limits: PreflightConfig) -> list[Preflight]:
    """Each node with the checks that need all of them. Node 0 is the first; where opinions are even, it is right."""
    judged = list(nodes)
    for name, facts in COMPARED.items():
        values = [_value(node, facts) for node in nodes]
        if not any(values):
            continue
        usual = _usual(values)
        judged = [node.having(_same(name, value, usual)) for node, value in zip(judged, values, strict=True)]
    return [node.having(*_measured(node, limits)) for node in judged]


def _value(node: Preflight, facts: Sequence[str]) -> str:
    """What the facts are, in words."""
    words: list[str] = []
    for fact in facts:
        found = node.facts.get(fact)
        if isinstance(found, dict):
            words += [f"{key} {found[key]}" for key in sorted(found)]
        elif found:
            words.append(f"{fact} {found}")
    return ", ".join(words)


def _usual(values: Sequence[str]) -> str:
    counts = Counter(values)
    most = max(counts.values())
    return values[0] if counts[values[0]] == most else next(value for value in values if counts[value] == most)


def _same(name: str, value: str, usual: str) -> Check:
    if value == usual:
        return Check(name, True, value)
    own, others = set(value.split(", ")), set(usual.split(", "))
    different, expected = ", ".join(sorted(own - others)), ", ".join(sorted(others - own))
    return Check(name, False, different or "less", f"the other nodes have {expected}")


def _measured(node: Preflight, limits: PreflightConfig) -> Iterator[Check]:
    """Clock and bandwidth, where the head node measured them."""
    offset = node.facts.get("clock_offset_s")
    if isinstance(offset, int | float):
        words = f"{abs(offset):.3f} s {'before' if offset > 0 else 'behind'} the head node"
        passed = not limits.clock_s or abs(offset) <= limits.clock_s
        yield Check("clock", passed, words, f"has to be within {limits.clock_s:g} s")
    bandwidth = node.facts.get("link_mib_s")
    if isinstance(bandwidth, int | float):
        trip = float(node.facts.get("round_trip_ms", 0.0))
        words = f"{bandwidth:.0f} MiB/s to the head node, round trip {trip:.2f} ms"
        yield Check("link", bandwidth >= limits.link_mib_s, words, f"has to be at least {limits.link_mib_s:g} MiB/s")
