"""How the memory of a plan looks: a bar of a rank's peak within its GPU, its terms, the other moments, host, disk.

Pure but for the colours that a `Page` paints; 80 columns.
"""

from __future__ import annotations

from conf.estimate import Estimate, Moment, Need, Term
from launcher.show import units
from launcher.show.show import Page

BAR_WIDTH = 60
GLYPHS = {
    "weights": "█",
    "gradients": "▓",
    "optimizer": "▒",
    "activations": "▚",
    "buffers": "░",
    "other": "∙",
}
"""What a part of the bar looks like, by the kind of its terms."""

_LABEL, _AMOUNT = 24, 10


def device_title(need: Need) -> str:
    """`Memory of a rank: 32.1 GiB of 79.1 GiB (H100, cluster.gres), fits`."""
    peak = units.size(need.peak.likely)
    band = f"{units.size(need.low)} to {units.size(need.high)}"
    if need.capacity is None:
        return f"Memory of a rank: {peak} ({band}); of how much is not known: {need.capacity_from}"
    return f"Memory of a rank: {peak} ({band}) of {units.size(need.capacity)}: {verdict(need)}"


def verdict(need: Need) -> str:
    """Whether it fits, in words."""
    if need.fits is None:
        return "unknown"
    if not need.fits:
        return "does not fit"
    if need.without:
        return f"fits without its {need.without}, which are not known"
    return "fits" if need.surely_fits else "fits, but perhaps not"


def device_lines(need: Need, page: Page) -> list[str]:
    """The bar, its legend, the peak term by term, and the other moments."""
    peak = need.peak
    lines = [bar(peak, need.capacity, page), *legend(peak, page)]
    if need.capacity is not None:
        lines.append(f"GPU: {need.capacity_from}")
    lines += ["", f"at the peak, {peak.name}:"]
    lines += [_row(term) for term in _largest_first(peak)]
    others = "   ".join(f"{moment.name} {units.size(moment.likely)}" for moment in need.moments)
    return [*lines, "", others]


def host_lines(need: Need) -> list[str]:
    """A node's host memory: one line of what is needed, one for each term of the peak."""
    peak = need.peak
    of = f" of {units.size(need.capacity)} ({need.capacity_from})" if need.capacity else f"; {need.capacity_from}"
    band = f"{units.size(need.low)} to {units.size(need.high)}"
    line = f"a node's host: {units.size(peak.likely)} ({band}){of}, {peak.name}"
    return [line, *(_row(term) for term in _largest_first(peak))]


def disk_lines(moment: Moment, free: int | None) -> list[str]:
    """What the run writes, of what is free now."""
    of = "" if free is None else f" of {units.size(free)} free"
    band = f"{units.size(moment.low)} to {units.size(moment.high)}"
    line = f"disk: {units.size(moment.likely)} ({band}){of}"
    return [line, *(_row(term) for term in _largest_first(moment))]


def other_lines(estimate: Estimate, free: int | None = None) -> list[str]:
    """Host, disk (`free` bytes are free there), and what is not counted."""
    lines = [] if estimate.host is None else host_lines(estimate.host)
    if estimate.disk is not None and estimate.disk.terms:
        lines += disk_lines(estimate.disk, free)
    return [*lines, *(f"not counted: {text}" for text in estimate.unknown)]


def bar(moment: Moment, capacity: int | None, page: Page) -> str:
    """The peak to scale: within the GPU's memory, whose end is a `|`, or alone where that is unknown."""
    parts = shares(moment, max(capacity or 0, moment.likely))
    drawn = "".join(page.paint(GLYPHS[kind] * letters, kind) for kind, letters in parts)
    used = sum(letters for _, letters in parts)
    if capacity is None:
        return drawn
    end = min(BAR_WIDTH, round(BAR_WIDTH * capacity / max(capacity, moment.likely)))
    return drawn + " " * (end - used) + "|" if used <= end else drawn + page.paint(" over", "warning")


def shares(moment: Moment, whole: int) -> list[tuple[str, int]]:
    """Letters of each kind in a bar of `BAR_WIDTH` that stands for `whole` bytes; those without any are left out."""
    amounts = by_kind(moment)
    found, before, drawn = [], 0, 0
    for kind, amount in amounts.items():
        before += amount
        letters = round(BAR_WIDTH * before / max(1, whole)) - drawn
        drawn += letters
        if letters:
            found.append((kind, letters))
    return found


def by_kind(moment: Moment) -> dict[str, int]:
    """Likely bytes of a moment by the kind of its terms, in the order of the bar."""
    return {
        kind: amount for kind in GLYPHS if (amount := sum(term.likely for term in moment.terms if term.kind == kind))
    }


def legend(moment: Moment, page: Page) -> list[str]:
    """What the bar's parts are, with their amounts, three a line."""
    cells = [
        page.paint(GLYPHS[kind], kind) + f" {kind:<12}{units.size(amount):>10}"
        for kind, amount in by_kind(moment).items()
    ]
    return ["  ".join(cells[start : start + 3]) for start in range(0, len(cells), 3)]


def _largest_first(moment: Moment) -> list[Term]:
    return sorted((term for term in moment.terms if term.likely), key=lambda term: -term.likely)


def _row(term: Term) -> str:
    return f"  {term.name:<{_LABEL}}{units.size(term.likely):>{_AMOUNT}}  {term.how}".rstrip()
