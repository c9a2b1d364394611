"""One run on a terminal: how far it is, curves, numbers, nodes, what happened last and what it prints. Pure.

What is there is dealt by the height of the window: the loss first, then the log, events and further curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conf.outcome import State
from launcher.runs.reading import EVAL_LOSS, LOSS, NORM, RATE, SPEED
from launcher.runs.series import Series
from launcher.runs.standing import Standing
from launcher.show import units
from launcher.show.line import Line, cut, line, width_of
from launcher.show.progress import PHASES, View, metric_words
from launcher.show.text_plot import plot
from launcher.watch.table import STYLES, note_of
from launcher.why.pending import advice_on

BAR = 24
BESIDE = ((NORM, "gradient norm"), (SPEED, "tokens/s"), (RATE, "learning rate"))
SMALL_ROWS = 4
NARROWEST = 36
"""Columns of a small plot: as many of them are side by side as the window is wide."""


@dataclass(frozen=True)
class Seen:
    """What is shown of a run at one moment; `log` has the end of its log, oldest line first."""

    now: float
    standing: Standing
    view: View
    series: Series
    events: Sequence[tuple[float, str]]
    log_name: str
    log: Sequence[str]


@dataclass(frozen=True)
class Deal:
    """Lines for each part."""

    loss: int
    small: int
    events: int
    log: int


def run_page(seen: Seen, width: int, height: int, plain: bool) -> list[Line]:
    """The page, in at most `height` lines."""
    top = [*_title(seen, width), *_waiting(seen, width), *_numbers(seen)]
    deal = _deal(height - len(top), bool(seen.series.points[LOSS]))
    lines = [*top, *_loss(seen, width, deal.loss, plain), *_small(seen, width, deal.small, plain)]
    if deal.events and seen.events:
        lines += [line(("events", "bold")), *(_event(at, text, seen.now) for at, text in seen.events[-deal.events :])]
    if deal.log and seen.log:
        name = cut(seen.log_name, width - 5)
        lines += [line(("log", "bold"), (f"  {name}", "dim"))]
        lines += [line("  " + text) for text in seen.log[-deal.log :]]
    return lines[:height]


def _deal(rows: int, has_curve: bool) -> Deal:
    """Share out the lines below the heading; each part but the first has a title."""
    if not has_curve:
        log = max(0, rows // 2 - 1)
        return Deal(0, 0, max(0, rows - log - 2), log)
    small = 0 if rows < 22 else SMALL_ROWS + (rows >= 34)
    left = rows - (small + 1 if small else 0)
    log = max(0, min(12, left // 3 - 1))
    events = max(0, min(6, left // 4 - 1))
    return Deal(max(4, min(18, left - log - events - 3)), small, events, log)


def _title(seen: Seen, width: int) -> list[Line]:
    standing = seen.standing
    parts = [f"attempt {standing.attempt}"] if standing.attempt is not None else []
    parts += [part for part in (standing.job, standing.nodes) if part]
    parts.append(f"since {units.duration(seen.now - standing.since)}")
    title = line(
        (standing.plan.run_id, "bold"),
        "  ",
        (standing.state.value, STYLES.get(standing.state, "")),
        (f"  {' · '.join(parts)}", "dim"),
    )
    return [title, _bar(seen, width)] if standing.step or standing.live else [title]


def _bar(seen: Seen, width: int) -> Line:
    standing, view = seen.standing, seen.view
    running = standing.state is State.running
    if running and view.phase and not view.in_steps:
        done, total, text = view.done or 0, view.total, view.text() + view.lasting(seen.now)
    else:
        done, total = standing.step, standing.total_steps
        of = f"/{total}" if total else ""
        eta = [f"ETA {units.duration(standing.eta_s)}"] if standing.eta_s is not None else []
        text = "  ".join([f"step {standing.step}{of}", *eta, *(metric_words(view.values) if running else [])])
        if running and view.phase in ("evaluate", "save"):
            text = f"{PHASES[view.phase]}  {text}"
    length = min(BAR, max(8, width // 4))
    filled = round(length * min(1.0, done / total)) if total else 0
    return line(("━" * filled, "good"), ("─" * (length - filled), "dim"), "  ", cut(text, width - length - 2))


def _waiting(seen: Seen, width: int) -> list[Line]:
    """Why it waits and what helps; why it ended."""
    standing = seen.standing
    doing = standing.state is State.running and seen.view.phase and not seen.view.in_steps
    note = "" if doing else note_of(standing, seen.now)
    lines = [line((cut(note, width), STYLES.get(standing.state, "")))] if note else []
    advice = advice_on(standing.waits_for) if standing.waits_for else ""
    if advice:
        lines.append(line(("what helps: " + advice, "dim")))
    if standing.state is State.failed:
        lines.append(line((f"why: muster why {standing.plan.run_id}", "dim")))
    return lines


def _numbers(seen: Seen) -> list[Line]:
    """Memory, data and the pace of the ranks, of the newest line that has them."""
    values = seen.view.values
    words = []
    for name, form in (
        ("mem/gpu_peak_gib", "GPU memory {:.2f} GiB"),
        ("mem/host_peak_gib", "host memory {:.2f} GiB"),
        ("health/straggler_factor", "slowest rank ×{:.2f}"),
        ("data/useful_share", "{:.1%} useful tokens"),
        ("perf/data_time_s", "{:.2g} s a step for data"),
    ):
        value = values.get(name)
        if isinstance(value, int | float):
            words.append(form.format(value))
    return [line((" · ".join(words), "dim"))] if words and seen.standing.live else []


def _loss(seen: Seen, width: int, height: int, plain: bool) -> list[Line]:
    points, marks = seen.series.points[LOSS], seen.series.points[EVAL_LOSS]
    if height < 3 or not (points or marks):
        return []
    said = f"  {points[-1][1]:.4f}" if points else ""
    told = f"   o evaluation {marks[-1][1]:.4f} at step {marks[-1][0]}" if marks else ""
    drawn = plot(points, width, height, marks, _end(seen), plain)
    return [line(("loss", "bold"), said, (told, "dim")), *(line((each, "label")) for each in drawn)]


def _small(seen: Seen, width: int, height: int, plain: bool) -> list[Line]:
    """Further curves side by side."""
    there = [(name, title) for name, title in BESIDE if len(seen.series.points[name]) > 1]
    count = min(len(there), max(1, width // NARROWEST))
    if not height or not there:
        return []
    each = (width - 2 * (count - 1)) // count
    blocks = [
        [
            f"{title}  {seen.series.points[name][-1][1]:.4g}",
            *plot(seen.series.points[name], each, height, (), _end(seen), plain),
        ]
        for name, title in there[:count]
    ]
    lines = []
    for row in range(height + 1):
        style = "label" if row else "bold"
        pieces = []
        for place, block in enumerate(blocks):
            text = cut(block[row], each)
            gap = each - width_of(text) + 2 if place < count - 1 else 0
            pieces += [(text, style), (" " * gap, "")]
        lines.append(tuple(pieces))
    return lines


def _end(seen: Seen) -> float | None:
    return float(seen.standing.total_steps) if seen.standing.total_steps else None


def _event(at: float, text: str, now: float) -> Line:
    style = "warning" if text.startswith("warning") else ""
    return line((f"  {units.clock(at, now)}  ", "dim"), (text, style))
