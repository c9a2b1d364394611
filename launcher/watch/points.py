"""The points of one sweep, live: a line each, what is to be said of it below, the best so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from launcher.runs.reading import LOSS
from launcher.runs.standing import Standing
from launcher.show import units
from launcher.show.line import Column, Line, Row, cut, line, table
from launcher.show.screen import can_draw, is_plain, size_of
from launcher.show.text_plot import sparkline
from launcher.sweep.overview import EVAL_LOSS, NOT_MADE, counts_text
from launcher.sweep.record import Sweep, SweptPoint
from launcher.watch.live import CURVES, EVERY_S, watch_pages
from launcher.watch.table import SPARK, STYLES, best_words, note_of
from launcher.watch.watcher import Watcher

COLUMNS = (
    Column("point"),
    Column("state"),
    Column("step", right=True),
    Column("loss", right=True),
    Column("trend", keep=3),
    Column("eval/loss", right=True, keep=5),
    Column("ETA", right=True, keep=4),
    Column("attempt", right=True, keep=2),
    Column("job", keep=1),
)
Found = list[Standing | None]


def watch_points(read: Callable[[], Sweep], searched: Callable[[Sweep], bool], out: TextIO | None = None) -> int:
    """Watch a sweep until nothing of it runs; `searched` says whether a search may add points to it still."""
    out = out or sys.stdout
    sweep = read()
    watcher = Watcher(lambda: [point.folder for point in sweep.points if point.folder.run_json.is_file()])

    def look() -> tuple[Sweep, Found, bool]:
        nonlocal sweep
        sweep = read()
        known = {standing.folder.path: standing for standing in watcher.look().standings}
        found = [known.get(point.folder.path) for point in sweep.points]
        return sweep, found, searched(sweep) or any(each is not None and each.live for each in found)

    if not can_draw(out):
        return _watch_plainly(look, out)
    plain = is_plain(out)

    def pages(width: int, height: int) -> tuple[list[Line], bool]:
        now, (sweep, found, live) = time.time(), look()
        rows = [
            _row(watcher, point, each, now, plain, place < CURVES)
            for place, (point, each) in enumerate(_live_first(sweep, found))
        ]
        best = best_words(sweep, found)
        top = [line((sweep.id, "bold"), f"  {counts_text(found)}", (f"  {time.strftime('%H:%M:%S')}", "dim"))]
        top += [line(("best so far: " + best, "good"))] if best else []
        lines = [*top, line(""), *table(COLUMNS, rows, width)[0]]
        if len(lines) > height:
            lines = [*lines[: height - 1], line(("… more below", "dim"))]
        return lines, live

    return watch_pages(pages, out)


def _live_first(sweep: Sweep, found: Found) -> list[tuple[SweptPoint, Standing | None]]:
    pairs = zip(sweep.points, found, strict=True)
    return sorted(pairs, key=lambda pair: 0 if pair[1] is not None and pair[1].live else 1)


def _row(
    watcher: Watcher, point: SweptPoint, standing: Standing | None, now: float, plain: bool, with_curve: bool
) -> Row:
    if standing is None:
        return Row({"point": point.label, "state": NOT_MADE}, {"state": "dim"})
    series = watcher.reading(standing.folder).want_curves(4 * SPARK) if with_curve else None
    evaluated = standing.outcome.metrics.get(EVAL_LOSS) if standing.outcome else None
    if evaluated is None and series is not None and series.points[EVAL_LOSS]:
        evaluated = series.points[EVAL_LOSS][-1][1]
    cells = {
        "point": point.label,
        "state": standing.state.value,
        "step": f"{standing.step}/{standing.total_steps}" if standing.total_steps else str(standing.step),
        "loss": f"{standing.loss:.4f}" if standing.loss is not None else "",
        "trend": sparkline(series.points[LOSS], SPARK, plain) if series is not None else "",
        "eval/loss": f"{evaluated:.4f}" if evaluated is not None else "",
        "ETA": units.short_duration(standing.eta_s) if standing.eta_s is not None else "",
        "attempt": str(standing.attempt) if standing.attempt else "",
        "job": standing.job.removeprefix("slurm:"),
    }
    return Row(cells, {"state": STYLES.get(standing.state, ""), "trend": "label"}, note_of(standing, now))


def _watch_plainly(look: Callable[[], tuple[Sweep, Found, bool]], out: TextIO) -> int:
    """A line a point whose state changed, and the counts after it."""
    seen: dict[str, str] = {}
    while True:
        sweep, found, live = look()
        changed = False
        for point, standing in zip(sweep.points, found, strict=True):
            state = standing.state.value if standing is not None else NOT_MADE
            if seen.get(point.run_id) == state:
                continue
            seen[point.run_id], changed = state, True
            note = note_of(standing, time.time()) if standing is not None else ""
            said = "  ".join(part for part in (f"{state:<11}", point.label, note) if part)
            print(cut(said, size_of(out)[0]) if out.isatty() else said, file=out, flush=True)
        if changed:
            print(f"{sweep.id}: {counts_text(found)}", file=out, flush=True)
        if not live:
            return 0
        time.sleep(EVERY_S)
