"""A sweep on this machine: its points one after the other in the foreground, or several at a time with a table.

Each is an ordinary local run. Ctrl-C saves and ends what runs and starts nothing more; a second one ends it at once.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from launcher.runs import rundir
from launcher.runs.standing import stand
from launcher.send.interrupts import Interrupts, interrupt
from launcher.send.local import start_script
from launcher.show.show import print_table, rich_table
from launcher.sweep.folder import SweepFolder, create, locked, read, write_sweep
from launcher.sweep.grid import Grid, Ready
from launcher.sweep.overview import COLUMNS, table_rows
from launcher.sweep.record import Sweep, SweptPoint
from launcher.sweep.submit import new_sweep

POLL_S = 0.2
DRAW_S = 1.0

Act = Callable[[Ready], int]


def run_points(grid: Grid, ready: Sequence[Ready], act: Act) -> int:
    """Run the points of a sweep here; the highest exit code. Points that are done stay as they are.

    Raises:
        MusterError: a folder cannot be made.
    """
    folder, sweep = new_sweep(grid, ready, "run")
    config = ready[0].proposal.plan.config
    if not create(folder, sweep, config.access):
        before = read(folder)
        known = {point.run_id for point in before.points}
        write_sweep(folder, _joined(before, [point for point in sweep.points if point.run_id not in known]))
    print(f"{sweep.id} · {len(ready)} points · {folder.path}", flush=True)
    code = _one_by_one(ready, act) if config.sweep.jobs == 1 else _several(folder, ready, config.sweep.jobs)
    _print_end(sweep, [one.swept for one in ready])
    return code


def _joined(sweep: Sweep, new: list[SweptPoint]) -> Sweep:
    return replace(sweep, points=[*sweep.points, *new])


def _one_by_one(ready: Sequence[Ready], act: Act) -> int:
    codes = [0]
    for number, one in enumerate(ready, start=1):
        print(f"\n--- {number} of {len(ready)}: {one.point}", flush=True)
        codes.append(act(one))
        if _state(one.swept) in (State.stopped.value, State.cancelled.value):
            break
    return max(codes)


def _state(point: SweptPoint) -> str:
    """How the point's run stands, in a word."""
    return stand(point.folder, {}).state.value if point.folder.run_json.is_file() else "not started"


def _print_end(sweep: Sweep, points: Sequence[SweptPoint]) -> None:
    print(f"\n--- {len(points)} points", flush=True)
    print_table(("point", "state", "folder"), [(point.label, _state(point), str(point.run_dir)) for point in points])
    print(f"\ntable   muster sweep status {sweep.id}")


def _several(folder: SweepFolder, ready: Sequence[Ready], jobs: int) -> int:
    waiting = [one for one in ready if _state(one.swept) != State.done.value]
    links: rundir.Links = {}
    for one in waiting:
        rundir.create(one.proposal.plan, one.proposal.artifacts, links)
    return _together(folder, [one.swept for one in ready], [one.swept.folder for one in waiting], jobs)


def retry_points(folder: SweepFolder, sweep: Sweep) -> int:
    """Run again what was started here and is not done, from its folder as it is; the exit code."""
    there = [point for point in sweep.points if point.folder.run_json.is_file()]
    again = [point for point in there if _state(point) != State.done.value]
    print(f"{sweep.id} · {len(again)} of {len(sweep.points)} points again · {folder.path}", flush=True)
    code = _together(folder, again, [point.folder for point in again], sweep.sweep.jobs) if again else 0
    _print_end(sweep, again)
    return code


def _together(folder: SweepFolder, shown: list[SweptPoint], waiting: list[RunFolder], jobs: int) -> int:
    """Run what waits, `jobs` at a time, under a table of what is shown; 0 once all of it is done."""
    for one in waiting:
        one.stop.unlink(missing_ok=True)
    with locked(folder), _table(shown) as draw:
        together = Together(list(waiting), jobs)
        with together.interrupts.installed():
            while together.step():
                draw()
                time.sleep(POLL_S)
    outcomes = [read_outcome(one.outcome) for one in waiting]
    return 0 if all(outcome is not None and outcome.state is State.done for outcome in outcomes) else 1


@dataclass
class Together:
    """Local runs of which at most `jobs` go on at a time."""

    waiting: list[RunFolder]
    jobs: int
    running: dict[RunFolder, subprocess.Popen[bytes]] = field(default_factory=dict)
    interrupts: Interrupts = field(default_factory=Interrupts)

    def step(self) -> bool:
        """Start what there is room for, do what Ctrl-C asks for; False once nothing runs and nothing waits."""
        self.running = {folder: process for folder, process in self.running.items() if process.poll() is None}
        self._interrupt()
        while self.waiting and len(self.running) < self.jobs:
            folder = self.waiting.pop(0)
            self.running[folder] = start_script(folder)
        return bool(self.running)

    def _interrupt(self) -> None:
        for turn in self.interrupts.new():
            self.waiting.clear()
            for folder, process in self.running.items():
                interrupt(folder, process, turn)


@contextlib.contextmanager
def _table(points: list[SweptPoint]) -> Iterator[Callable[[], None]]:
    """Draws how the points stand: in place on a terminal, else a line whenever a state changes."""
    drawn = [0.0]
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(transient=True) as live:

            def draw() -> None:
                if time.monotonic() - drawn[0] >= DRAW_S:
                    live.update(rich_table(COLUMNS, table_rows(points, {})))
                    drawn[0] = time.monotonic()

            yield draw
        return
    seen: dict[str, Any] = {}

    def say() -> None:
        if time.monotonic() - drawn[0] < DRAW_S:
            return
        drawn[0] = time.monotonic()
        for point, row in zip(points, table_rows(points, {}), strict=True):
            if seen.get(point.run_id) != row[1]:
                seen[point.run_id] = row[1]
                print(f"{row[1]:<12} {point.label}", flush=True)

    yield say
