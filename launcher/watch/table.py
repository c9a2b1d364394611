"""Runs and sweeps as tables of as many columns as a terminal has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conf.outcome import State
from launcher.problems import MusterError
from launcher.runs.reading import LOSS
from launcher.runs.series import Series
from launcher.runs.standing import Standing
from launcher.show import units
from launcher.show.line import Column, Line, Row, line, table
from launcher.show.text_plot import sparkline
from launcher.sweep.overview import counts_text
from launcher.sweep.ranking import criterion_of, rank
from launcher.sweep.record import Sweep
from launcher.sweep.results import NOT_STARTED, Result
from launcher.watch.watcher import Look

SPARK = 10
UNLIMITED = 1 << 20
COLUMNS = (
    Column("run"),
    Column("state"),
    Column("step", right=True),
    Column("loss", right=True),
    Column("trend", keep=5),
    Column("tokens/s", right=True, keep=6),
    Column("ETA", right=True, keep=7),
    Column("nodes", keep=4),
    Column("attempt", right=True, keep=3),
    Column("job", keep=2),
    Column("since", right=True, keep=1),
)
STYLES = {
    State.running: "good",
    State.queued: "warning",
    State.failed: "bad",
    State.done: "dim",
    State.prepared: "dim",
}
Curves = Callable[[Standing], Series | None]


def run_lines(look: Look, curves: Curves, width: int | None, plain: bool, named: bool) -> list[Line]:
    """A line a run, with a second one for what is to be said of it; without runs of sweeps that have ended.

    Args:
        width: None where nothing limits it, as in a pipe; what is to be said is then a column of its own.
        named: a person asked for these runs, so all of them are there.
    """
    swept = {point.folder.path for sweep, _ in look.sweeps for point in sweep.points}
    shown = [each for each in look.standings if named or each.live or each.folder.path not in swept]
    if not shown:
        return []
    drawn = [_row(each, curves(each), look.now, plain) for each in shown]
    if width is None:
        flat = [Row(row.cells | {"reason": row.note}, row.styles) for row in drawn]
        return table((*COLUMNS, Column("reason")), flat, UNLIMITED)[0]
    lines, left_out = table(COLUMNS, drawn, width)
    if left_out:
        noted = [_with_note(each, row, left_out) for each, row in zip(shown, drawn, strict=True)]
        lines, _ = table(COLUMNS, noted, width)
    return lines


def _row(standing: Standing, series: Series | None, now: float, plain: bool) -> Row:
    total = f"/{standing.total_steps}" if standing.total_steps else ""
    points = series.points[LOSS] if series is not None else []
    cells = {
        "run": standing.plan.run_id,
        "state": standing.state.value,
        "step": f"{standing.step}{total}",
        "loss": f"{standing.loss:.4f}" if standing.loss is not None else "",
        "trend": sparkline(points, SPARK, plain),
        "tokens/s": units.count(standing.tokens_per_second) if standing.tokens_per_second is not None else "",
        "ETA": units.short_duration(standing.eta_s) if standing.eta_s is not None else "",
        "nodes": standing.nodes or _asked(standing),
        "attempt": str(standing.attempt) if standing.attempt is not None else "",
        "job": standing.job,
        "since": units.short_duration(now - standing.since),
    }
    style = STYLES.get(standing.state, "")
    return Row(cells, {"state": style, "trend": "label"}, note_of(standing, now))


def _asked(standing: Standing) -> str:
    """How many nodes a run asks for."""
    count = standing.plan.topology.nodes
    return f"{count} node{'s' if count > 1 else ''}" if standing.live else ""


def note_of(standing: Standing, now: float) -> str:
    """Why it waits, what it does or why it ended, and when it would start."""
    said = [standing.reason.splitlines()[0]] if standing.reason and standing.state is not State.done else []
    if standing.starts:
        said.append(f"would start {starts_in(standing, now)}")
    return " · ".join(said)


def starts_in(standing: Standing, now: float) -> str:
    """`26 Nov 14:05, in 12 min`: Slurm's estimate."""
    import time

    try:
        when = time.mktime(time.strptime(standing.starts, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return standing.starts
    return f"{units.clock(when, now)}, in {units.duration(when - now)}" if when > now else "soon"


def _with_note(standing: Standing, row: Row, left_out: set[str]) -> Row:
    """Of a live run, what did not fit but should be known."""
    if not standing.live:
        return row
    said = [row.note] if row.note else []
    if "nodes" in left_out and row.cells["nodes"] and standing.plan.topology.nodes > 1:
        said.append(row.cells["nodes"])
    if "attempt" in left_out and standing.attempt:
        said.append(f"attempt {standing.attempt}")
    return Row(row.cells, row.styles, " · ".join(said))


def sweep_lines(look: Look, width: int | None) -> list[Line]:
    """A line a sweep: how many points are in which state, and the best so far."""
    rows = []
    for sweep, found in look.sweeps:
        best = best_words(sweep, found)
        cells = {"sweep": sweep.id, "points": str(len(sweep.points)), "states": counts_text(found)}
        rows.append(Row(cells, {}, f"best so far: {best}" if best else ""))
    columns = (Column("sweep"), Column("points", right=True, keep=1), Column("states"))
    return table(columns, rows, width or UNLIMITED)[0] if rows else []


def best_words(sweep: Sweep, found: Sequence[Standing | None]) -> str:
    """The best point that is done, by what its outcome says: `eval/loss 0.42 at optim.learning_rate=1e-4`."""
    results = [
        Result(point, standing.state.value, standing.step, {}, standing.outcome.metrics, standing.plan)
        if standing is not None and standing.outcome is not None
        else Result(point, NOT_STARTED)
        for point, standing in zip(sweep.points, found, strict=True)
    ]
    try:
        criterion = criterion_of(sweep.sweep, results)
    except MusterError:
        return ""
    first = rank(results, criterion)[0]
    return "" if first.place is None else f"{criterion.metric} {first.value:.5g} at {first.result.point.label}"


def heading(look: Look) -> Line:
    """The line above all: how many runs are in which state, and the time."""
    import time

    counts = counts_text(look.standings)
    return line(("muster status", "bold"), f"  {counts or 'no runs yet'}", (f"  {time.strftime('%H:%M:%S')}", "dim"))
