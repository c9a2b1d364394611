"""`muster sweep`: many runs that were sent by one command."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.flags import Parser
    from launcher.runs.standing import Standing
    from launcher.sweep.folder import SweepFolder
    from launcher.sweep.record import Sweep

HELP = "the sweeps of -m: status, best, retry, extend, cancel, export, report"
EXAMPLES = """
muster sweep                                           # all sweeps
muster sweep status demo -w
muster sweep best demo --metric eval/accuracy --direction maximize --json
muster sweep retry demo
muster sweep extend demo -m optim.learning_rate=1e-4
muster sweep export demo --best eval/loss
"""
WATCH_S = 2.0


def run(argv: list[str]) -> int:
    """Do one of the actions; without one, list the sweeps."""
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in ACTIONS else ("", argv)
    if name:
        return ACTIONS[name](rest)
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("sweep", HELP, EXAMPLES)
    parser.usage = f"muster sweep [{'|'.join(ACTIONS)}] [SWEEP] [flags]"
    parser.add_argument("--json", action="store_true", help="a list with one object a sweep")
    target.add_run_root(parser)
    return _list(parser.parse_args(rest))


def status(argv: list[str]) -> int:
    """The points of a sweep as a table."""
    from launcher.flags import Parser

    parser = Parser("sweep status", "how the points of a sweep stand", "muster sweep status demo -w")
    _add_sweep(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="live until Ctrl-C, or until nothing runs any more")
    parser.add_argument("--json", action="store_true", help="the sweep, with one object a point")
    flags = parser.parse_args(argv)
    folder, sweep = _found(flags)
    if flags.watch:
        return _watch(folder, sweep)
    found = _standings(sweep)
    if flags.json:
        import json

        from launcher.sweep.overview import json_of

        points = [json_of(point, standing) for point, standing in zip(sweep.points, found, strict=True)]
        print(json.dumps({"sweep": sweep.id, "folder": str(folder.path), "points": points}, indent=2))
        return 0
    _print_table(folder, sweep, found)
    return 0


def retry(argv: list[str]) -> int:
    """Send the points again that ended without being done."""
    from launcher.flags import Parser
    from launcher.sweep.again import retry_points
    from launcher.sweep.pages import submitted_lines

    parser = Parser("sweep retry", "send again what failed, was stopped, cancelled or lost", "muster sweep retry demo")
    _add_sweep(parser)
    folder, sweep = _found(parser.parse_args(argv))
    submitted = retry_points(folder, sweep)
    print("\n".join(submitted_lines(sweep, submitted)))
    return 0


def extend(argv: list[str]) -> int:
    """Add the points that further values make."""
    from launcher.compose.hydra_main import sort_words
    from launcher.compose.overrides import split
    from launcher.flags import Parser

    parser = Parser("sweep extend", "more values of a sweep; points that are there stay", "")
    parser.usage = "muster sweep extend SWEEP -m key=value,value …"
    _add_sweep(parser)
    flags, words = split(parser, argv)
    from launcher.sweep.again import extend_points
    from launcher.sweep.folder import read
    from launcher.sweep.pages import submitted_lines

    folder, sweep = _found(flags)
    if sweep.sweep.sampler is not None:
        from launcher.problems import MusterError

        raise MusterError(
            f"{sweep.id} is Optuna's; the command that made it with a larger sweep.trials goes on with it"
        )
    submitted = extend_points(folder, sweep, sort_words(words).overrides)
    print("\n".join(submitted_lines(read(folder), submitted)))
    return 0


def cancel(argv: list[str]) -> int:
    """End every point that runs or waits."""
    from launcher.flags import Parser
    from launcher.sweep.again import cancel_points

    parser = Parser("sweep cancel", "end what runs or waits, without saving", "muster sweep cancel demo")
    _add_sweep(parser)
    folder, sweep = _found(parser.parse_args(argv))
    from launcher.sweep.folder import read
    from launcher.verbs.sweep_search import end_controller

    ended = end_controller(folder)  # first, so that it sends nothing in their place
    ended += cancel_points(read(folder))
    print("\n".join(ended) if ended else f"nothing of {sweep.id} runs or waits")
    return 0


def export(argv: list[str]) -> int:
    """Export the model of the best point."""
    from launcher.flags import Parser
    from launcher.sweep.summary import results_of
    from launcher.verbs import export as export_verb

    parser = Parser("sweep export", "write the model of the best point", "muster sweep export demo --best eval/loss")
    _add_sweep(parser)
    parser.add_argument(
        "--best", metavar="METRIC", nargs="?", const=None, help="the metric that decides (default: eval/loss)"
    )
    parser.add_argument("--direction", choices=("minimize", "maximize"), help="what is better (default: by its name)")
    flags = parser.parse_args(argv)
    from conf.schema import Direction
    from launcher.problems import NotFoundError
    from launcher.sweep.ranking import criterion_of, rank

    _, sweep = _found(flags)
    results = results_of(sweep)
    direction = Direction(flags.direction) if flags.direction else None
    criterion = criterion_of(sweep.sweep, results, flags.best, direction)
    first = rank(results, criterion)[0]
    if first.place is None or first.value is None:
        raise NotFoundError(f"no point of {sweep.id} is done with {criterion.metric}")
    point = first.result.point
    print(f"{point.run_id} is the best by {criterion.words}: {first.value:.6g} ({point.label})", flush=True)
    if (point.folder.export / "config.json").is_file():
        print(f"its model is there already: {point.folder.export}")
        return 0
    return export_verb.run([point.run_dir])


def best(argv: list[str]) -> int:
    """The points by a metric."""
    from launcher.verbs import sweep_results

    return sweep_results.best(argv)


def resume(argv: list[str]) -> int:
    """Go on with a search whose controller is gone."""
    from launcher.verbs import sweep_search

    return sweep_search.resume(argv)


def control(argv: list[str]) -> int:
    """Be the controller of a search."""
    from launcher.verbs import sweep_search

    return sweep_search.control_verb(argv)


def report(argv: list[str]) -> int:
    """The report of a sweep."""
    from launcher.verbs import sweep_results

    return sweep_results.report(argv)


ACTIONS: dict[str, Callable[[list[str]], int]] = {
    "status": status,
    "best": best,
    "retry": retry,
    "extend": extend,
    "cancel": cancel,
    "export": export,
    "report": report,
    "resume": resume,
    "control": control,
}


def _list(flags: Any) -> int:
    import json

    from launcher.runs import target
    from launcher.show.show import print_table
    from launcher.sweep.folder import list_sweeps, read
    from launcher.sweep.overview import counts_text

    rows = []
    for folder in list_sweeps(target.run_root(flags.run_root)):
        sweep = read(folder)
        rows.append((sweep.id, str(len(sweep.points)), counts_text(_standings(sweep)), str(folder.path)))
    if flags.json:
        print(json.dumps([dict(zip(("sweep", "points", "states", "folder"), row, strict=True)) for row in rows]))
    elif rows:
        print_table(("sweep", "points", "states", "folder"), rows)
    else:
        print("no sweeps yet; one is `muster submit -m optim.learning_rate=1e-5,2e-5 …`")
    return 0


def _add_sweep(parser: Parser) -> None:
    from launcher.runs import target

    parser.add_argument("sweep", metavar="SWEEP", help="a name, an id or a folder")
    target.add_run_root(parser)


def _found(flags: Any) -> tuple[SweepFolder, Sweep]:
    from launcher.runs import target
    from launcher.sweep.folder import find, read

    folder = find(flags.sweep, target.run_root(flags.run_root))
    return folder, read(folder)


def _standings(sweep: Sweep) -> list[Standing | None]:
    from launcher.send.scheduler import live_jobs
    from launcher.sweep.overview import standings

    return standings(sweep.points, live_jobs(point.folder for point in sweep.points))


def _print_table(folder: SweepFolder, sweep: Sweep, found: list[Standing | None]) -> None:
    from launcher.show.show import print_table
    from launcher.sweep.overview import COLUMNS, counts_text, row_of

    print_table(COLUMNS, [row_of(point, standing) for point, standing in zip(sweep.points, found, strict=True)])
    print(f"\n{sweep.id}: {counts_text(found)}   {folder.path}", flush=True)


def _watch(folder: SweepFolder, sweep: Sweep) -> int:
    """The table again and again: in place on a terminal, else a new one when a state changed."""
    from launcher.sweep.control import is_searched
    from launcher.sweep.folder import read
    from launcher.sweep.overview import COLUMNS, counts_text, row_of

    def is_live(found: list[Standing | None]) -> bool:
        return any(standing is not None and standing.live for standing in found)

    if not sys.stdout.isatty():
        seen: list[str] = []
        while True:
            sweep = read(folder)  # a search has more points from time to time
            found = _standings(sweep)
            states = [standing.state.value if standing else "" for standing in found]
            if states != seen:
                _print_table(folder, sweep, found)
                seen = states
            if not is_live(found) and not is_searched(folder, sweep):
                return 0
            time.sleep(WATCH_S)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from launcher.show.show import rich_table

    with Live(refresh_per_second=2) as live:
        while True:
            sweep = read(folder)
            found = _standings(sweep)
            rows = [row_of(point, standing) for point, standing in zip(sweep.points, found, strict=True)]
            live.update(Group(rich_table(COLUMNS, rows), Text(f"{sweep.id}: {counts_text(found)}")))
            if not is_live(found) and not is_searched(folder, sweep):
                return 0
            time.sleep(WATCH_S)
