"""`muster status`: how runs and sweeps stand, once or live."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conf.layout import RunFolder
    from launcher.runs.standing import Standing
    from launcher.sweep.record import Sweep
    from launcher.watch.watcher import Look, Watcher

HELP = "how runs stand: step, loss, speed, time left; -w watches"
EXAMPLES = """
muster status    # every run and sweep
muster status demo    # one run in detail
muster status -w    # all of them, live; q or Ctrl-C leaves, the runs go on
muster status demo -w    # one run, live: curves, nodes, events, log
muster status my-sweep    # all points of a sweep
muster status -w --json    # a line of JSON whenever something changes
"""
LABELS = ("state", "step", "loss", "tokens/s", "ETA", "attempt", "job", "nodes", "since", "reason")


def run(argv: list[str]) -> int:
    """Print a table of runs, or one run in detail."""
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.watch.watcher import Watcher

    parser = Parser("status", HELP, EXAMPLES)
    parser.add_argument(
        "run", metavar="RUN", nargs="*", help="names, ids, folders, Slurm job ids, sweeps (default: all runs)"
    )
    parser.add_argument("-w", "--watch", action="store_true", help="live until q, Ctrl-C, or until nothing runs")
    parser.add_argument(
        "--json", action="store_true", help="a list with one object a run; with -w one object a line for each change"
    )
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    watcher = _watcher(flags, Watcher)
    if flags.watch:
        from launcher.watch.live import watch_runs

        return watch_runs(watcher, named=bool(flags.run), as_json=flags.json)
    look = watcher.look()
    if flags.json:
        print(json.dumps([standing.as_json() for standing in look.standings], indent=2))
    else:
        _print(watcher, look, flags)
    for text in look.unreadable:
        print(f"cannot be read: {text}", file=sys.stderr)
    return 1 if flags.run and look.unreadable else 0


def _watcher(flags: Any, made: type[Watcher]) -> Watcher:
    """One that looks at the runs asked for, or at all runs and sweeps that there are by then."""
    from launcher.runs import rundir, target
    from launcher.sweep.folder import list_sweeps, read
    from launcher.sweep.members import find_runs, find_sweep

    root = target.run_root(flags.run_root)
    meant = [sweep for word in flags.run if (sweep := find_sweep(word, root)) is not None]

    def sweeps() -> Iterable[Sweep]:
        return [read(folder) for folder in (meant if flags.run else list_sweeps(root))]

    def runs() -> Iterable[RunFolder]:
        return find_runs(flags.run, root) if flags.run else rundir.list_runs(root)

    runs()  # a word that means nothing is said before anything is drawn
    return made(runs, sweeps, 0.0) if flags.run else made(runs, sweeps)


def _print(watcher: Watcher, look: Look, flags: Any) -> None:
    from launcher.show.show import Page

    if flags.run and len(look.standings) == 1 and not look.sweeps:
        Page(sys.stdout).rows(look.standings[0].plan.run_id, detail_rows(look.standings[0]))
    elif look.standings:
        _print_table(watcher, look)
    elif not look.unreadable:
        print("no runs yet; the demo: muster run")


def _print_table(watcher: Watcher, look: Look) -> None:
    """All runs, then all sweeps; as wide as the terminal, in a pipe as wide as need be."""
    from launcher.show.line import cut_line
    from launcher.show.screen import is_plain, size_of
    from launcher.show.show import Page
    from launcher.watch.live import curves_of
    from launcher.watch.table import run_lines, sweep_lines

    page = Page(sys.stdout)
    width = size_of(sys.stdout)[0] if sys.stdout.isatty() else None
    lines = run_lines(look, curves_of(watcher), width, is_plain(sys.stdout), named=True)
    sweeps = sweep_lines(look, width)
    for pieces in [*lines, *([()] if sweeps else []), *sweeps]:
        shown = pieces if width is None else cut_line(pieces, width)
        print("".join(page.paint(text, style) for text, style in shown).rstrip())


def detail_rows(standing: Standing) -> list[tuple[str, str]]:
    """One run, label by label."""
    from launcher.runs.incidents import incident_lines
    from launcher.runs.mirror import page_on_wandb
    from launcher.show import units
    from launcher.show.evaluations import evaluation_lines
    from launcher.show.plan_page import compared_rows, memory_text, script_rows

    folder, plan = standing.folder, standing.plan
    rows = _state_rows(standing)
    if plan.script is None:
        size = units.count(plan.parameters) if plan.parameters else "?"
        rows += [("model", f"{plan.model_type}, {size} parameters"), ("memory", memory_text(plan))]
        rows += compared_rows(folder)
    else:
        rows += script_rows(plan)
    rows += [("evaluation" if index == 0 else "", line) for index, line in enumerate(evaluation_lines(folder)[1:])]
    rows += [("numbers" if index == 0 else "", line) for index, line in enumerate(incident_lines(folder))]
    page = page_on_wandb(folder)
    if page is not None:
        rows.append(("W&B", page))
    rows.append(("folder", str(folder.path)))
    if standing.outcome is not None and standing.outcome.checkpoint:
        rows.append(("checkpoint", standing.outcome.checkpoint))
    if standing.state.value == "failed":
        rows.append(("why", f"muster why {plan.run_id}"))
    return rows


def _state_rows(standing: Standing) -> list[tuple[str, str]]:
    """State, step, loss, …, reason: what there is of them."""
    from launcher.show import units
    from launcher.watch.table import note_of

    now = time.time()
    total = f"/{standing.total_steps}" if standing.total_steps else ""
    values = (
        standing.state.value,
        f"{standing.step}{total}",
        f"{standing.loss:.4f}" if standing.loss is not None else "",
        units.count(standing.tokens_per_second) if standing.tokens_per_second is not None else "",
        units.duration(standing.eta_s) if standing.eta_s is not None else "",
        str(standing.attempt) if standing.attempt is not None else "",
        standing.job,
        standing.nodes,
        units.duration(now - standing.since),
        note_of(standing, now) or standing.reason,
    )
    return [(label, text) for label, text in zip(LABELS, values, strict=True) if text]
