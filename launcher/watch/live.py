"""Watching until nothing runs any more: in place on a terminal, else a line for each change."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TextIO

from launcher.runs.read import last_text_lines, list_attempts, log_file
from launcher.runs.series import Series
from launcher.runs.standing import Standing
from launcher.show import units
from launcher.show.line import Line, cut, line
from launcher.show.progress import metric_words
from launcher.show.screen import Screen, can_draw, is_plain, size_of
from launcher.watch.one_run import Seen, run_page
from launcher.watch.table import SPARK, Curves, heading, note_of, run_lines, sweep_lines
from launcher.watch.watcher import Look, Watcher

EVERY_S = 2.0
PLAIN_S = 10.0
"""How often a line of a run that only makes steps is printed where nothing can be drawn in place."""

CURVES = 40
"""Runs whose curves are kept: those that fit on a screen."""

Pages = Callable[[int, int], tuple[list[Line], bool]]
"""Width and height to the lines of a page, and whether something still runs."""


def watch_pages(pages: Pages, out: TextIO) -> int:
    """Draw a page again and again until nothing runs any more, Ctrl-C, or `q`."""
    with Screen(out) as screen:
        while True:
            lines, live = pages(*size_of(out))
            screen.draw(lines)
            if not live or not screen.wait(EVERY_S):
                return 0


def watch_runs(watcher: Watcher, named: bool, as_json: bool, out: TextIO | None = None) -> int:
    """Watch runs; one alone that was `named` is shown with its curves and its log."""
    out = out or sys.stdout
    if as_json or not can_draw(out):
        return _watch_plainly(watcher, named, as_json, out)
    plain = is_plain(out)

    def pages(width: int, height: int) -> tuple[list[Line], bool]:
        look = watcher.look()
        if named and len(look.standings) == 1 and not look.sweeps:
            return run_page(seen(watcher, look), width, height, plain), look.live
        return table_page(watcher, look, width, height, plain, named), look.live

    return watch_pages(pages, out)


def table_page(watcher: Watcher, look: Look, width: int, height: int, plain: bool, named: bool) -> list[Line]:
    """The table of runs, that of sweeps, and what could not be read, in at most `height` lines."""
    runs, sweeps = run_lines(look, curves_of(watcher), width, plain, named), sweep_lines(look, width)
    rest = [line((f"cannot be read: {text}", "bad")) for text in look.unreadable]
    rest += [line(""), *sweeps] if sweeps else []
    room = max(3, height - 2 - min(len(rest), height // 3))
    if len(runs) > room:
        runs = [*runs[: room - 1], line(("… more below: give names, or `muster status`", "dim"))]
    return [heading(look), line(""), *runs, *rest]


def curves_of(watcher: Watcher) -> Curves:
    """The curves of the first runs that are asked for."""
    asked = count()

    def curves(standing: Standing) -> Series | None:
        return watcher.reading(standing.folder).want_curves(4 * SPARK) if next(asked) < CURVES else None

    return curves


def seen(watcher: Watcher, look: Look) -> Seen:
    """All that is shown of the first run."""
    standing = look.standings[0]
    reading = watcher.reading(standing.folder)
    attempts = list_attempts(standing.folder)
    path = log_file(attempts[-1]) if attempts else None
    series = reading.want_curves()
    view = reading.view(attempts[-1] if attempts else None)
    log = last_text_lines(path, 40) if path else []
    return Seen(look.now, standing, view, series, list(reading.events), str(path or ""), log)


def _watch_plainly(watcher: Watcher, named: bool, as_json: bool, out: TextIO) -> int:
    """A line a run that changed: at once where its state did, else every ten seconds; 1 where a named one is broken."""
    printed: dict[Path, tuple[float, Sequence[object]]] = {}
    while True:
        look = watcher.look()
        for standing in look.standings:
            state = (standing.state, standing.reason if not standing.step else "", standing.attempt, standing.live)
            now = (*state, standing.step, standing.reason)
            at, before = printed.get(standing.folder.path, (0.0, ()))
            if before[:4] == state and (now == before or (look.now - at < PLAIN_S and look.live)):
                continue
            printed[standing.folder.path] = look.now, now
            said = change_line(standing, look.now)
            if as_json:
                said = json.dumps(standing.as_json())
            elif out.isatty():
                said = cut(said, size_of(out)[0])
            print(said, file=out, flush=True)
        for text in look.unreadable:
            print(f"cannot be read: {text}", file=sys.stderr)
        if not look.live:
            if not look.standings and not as_json:
                print("no runs", file=out)
            return 1 if named and look.unreadable else 0
        time.sleep(EVERY_S)


def change_line(standing: Standing, now: float) -> str:
    """`14:05:09  demo-a10400ec  running  step 34/100  loss 2.3412  ETA 1 min 3 s`."""
    total = f"/{standing.total_steps}" if standing.total_steps else ""
    parts = [units.clock(now, now), standing.plan.run_id, standing.state.value]
    if standing.step:
        parts.append(f"step {standing.step}{total}")
        values = {"train/loss": standing.loss, "perf/tokens_per_second": standing.tokens_per_second}
        parts += metric_words(values)
    if standing.eta_s is not None:
        parts.append(f"ETA {units.duration(standing.eta_s)}")
    parts.append(note_of(standing, now))
    return "  ".join(part for part in parts if part)
