"""`muster status`: how runs stand."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder
    from launcher.runs.standing import Standing

HELP = "how runs stand: state, step, loss, speed, time left; -w watches"
EXAMPLES = """
muster status
muster status demo
muster status -w
muster status --json
"""
COLUMNS = ("run", "state", "step", "loss", "tokens/s", "ETA", "attempt", "job", "since", "reason")
WATCH_S = 2.0


def run(argv: list[str]) -> int:
    """Print a table of runs, or one run in detail."""
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("status", HELP, EXAMPLES)
    parser.add_argument(
        "run", metavar="RUN", nargs="*", help="names, ids, folders or Slurm job ids (default: all runs)"
    )
    parser.add_argument("-w", "--watch", action="store_true", help="live until Ctrl-C, or until nothing runs any more")
    parser.add_argument("--json", action="store_true", help="a list with one object a run")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    if flags.watch:
        return _watch(flags)
    standings, unreadable = _standings(flags)
    if flags.json:
        print(json.dumps([standing.as_json() for standing in standings], indent=2))
        return 0
    _print(standings, unreadable, flags)
    return 0


def _standings(flags: Any) -> tuple[list[Standing], list[str]]:
    """The runs asked for, newest first, and what could not be read."""
    from launcher.runs import rundir, target
    from launcher.runs.accounting import with_accounting
    from launcher.runs.standing import stand
    from launcher.send.scheduler import live_jobs

    root = target.run_root(flags.run_root)
    folders: list[RunFolder] = (
        [rundir.find(argument, root) for argument in flags.run] if flags.run else list(rundir.list_runs(root))
    )
    jobs = live_jobs(folders)
    standings, unreadable = [], []
    for folder in folders:
        try:
            standings.append(stand(folder, jobs))
        except (OSError, ValueError) as error:
            unreadable.append(f"{folder.path}: {error}")
    standings = with_accounting(standings)
    return sorted(standings, key=lambda standing: (not standing.live, -standing.since)), unreadable


def _print(standings: list[Standing], unreadable: list[str], flags: Any) -> None:
    from launcher.show.show import Page, print_table

    if len(flags.run) == 1 and standings:
        Page(sys.stdout).rows(standings[0].plan.run_id, detail_rows(standings[0]))
    elif standings:
        print_table(COLUMNS, [table_row(standing, time.time()) for standing in standings])
    elif not unreadable:
        print("no runs yet; the demo: muster run")
    for text in unreadable:
        print(f"cannot be read: {text}", file=sys.stderr)


def table_row(standing: Standing, now: float) -> tuple[str, ...]:
    """A run as a row of the table."""
    from launcher.show import units

    total = f"/{standing.total_steps}" if standing.total_steps else ""
    return (
        standing.plan.run_id,
        standing.state.value,
        f"{standing.step}{total}",
        f"{standing.loss:.4f}" if standing.loss is not None else "",
        units.count(standing.tokens_per_second) if standing.tokens_per_second is not None else "",
        units.duration(standing.eta_s) if standing.eta_s is not None else "",
        str(standing.attempt) if standing.attempt is not None else "",
        standing.job,
        units.duration(now - standing.since),
        "" if standing.state.value == "done" else standing.reason.splitlines()[0] if standing.reason else "",
    )


def detail_rows(standing: Standing) -> list[tuple[str, str]]:
    """One run, label by label."""
    from launcher.runs.incidents import incident_lines
    from launcher.show import units
    from launcher.show.evaluations import evaluation_lines
    from launcher.show.plan_page import memory_text, script_rows

    folder, plan = standing.folder, standing.plan
    row = dict(zip(COLUMNS, table_row(standing, time.time()), strict=True))
    rows = [(name, row[name]) for name in COLUMNS[1:] if row[name]]
    if standing.state.value == "done":
        rows.append(("reason", standing.reason))
    if plan.script is None:
        size = units.count(plan.parameters) if plan.parameters else "?"
        rows += [("model", f"{plan.model_type}, {size} parameters"), ("memory", memory_text(plan))]
    else:
        rows += script_rows(plan)
    rows += [("evaluation" if index == 0 else "", line) for index, line in enumerate(evaluation_lines(folder)[1:])]
    rows += [("numbers" if index == 0 else "", line) for index, line in enumerate(incident_lines(folder))]
    rows.append(("folder", str(folder.path)))
    if standing.outcome is not None and standing.outcome.checkpoint:
        rows.append(("checkpoint", standing.outcome.checkpoint))
    if standing.state.value == "failed":
        rows.append(("why", f"muster why {plan.run_id}"))
    return rows


def _watch(flags: Any) -> int:
    """Draw the table again and again: in place on a terminal, else a new one when a line changed."""
    if not sys.stdout.isatty():
        return _watch_plain(flags)
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from launcher.show.show import rich_table

    with Live(console=Console(), refresh_per_second=2, transient=False) as live:
        while True:
            standings, unreadable = _standings(flags)
            rows = [table_row(standing, time.time()) for standing in standings]
            live.update(Group(rich_table(COLUMNS, rows), *(Text(f"cannot be read: {text}") for text in unreadable)))
            if not any(standing.live for standing in standings):
                return 0
            time.sleep(WATCH_S)


def _watch_plain(flags: Any) -> int:
    seen: list[tuple[str, ...]] = []
    while True:
        standings, unreadable = _standings(flags)
        # Times run on by themselves: only what else changed is worth a new table.
        rows = [table_row(standing, standing.since) for standing in standings]
        if rows != seen:
            _print(standings, unreadable, flags)
            sys.stdout.flush()
            seen = rows
        if not any(standing.live for standing in standings):
            return 0
        time.sleep(WATCH_S)
