"""`muster sweep` and `muster sweep status`: all sweeps, and the points of one, once or live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.flags import Parser
    from launcher.runs.standing import Standing
    from launcher.sweep.folder import SweepFolder
    from launcher.sweep.record import Sweep


def status(argv: list[str]) -> int:
    """The points of a sweep as a table."""
    from launcher.flags import Parser

    parser = Parser("sweep status", "how the points of a sweep stand", "muster sweep status demo -w")
    add_sweep(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="live until q, Ctrl-C, or until nothing runs")
    parser.add_argument("--json", action="store_true", help="the sweep, with one object a point")
    flags = parser.parse_args(argv)
    folder, sweep = found_sweep(flags)
    if flags.watch:
        return _watch(folder)
    found = _standings(sweep)
    if flags.json:
        import json

        from launcher.sweep.overview import json_of

        points = [json_of(point, standing) for point, standing in zip(sweep.points, found, strict=True)]
        print(json.dumps({"sweep": sweep.id, "folder": str(folder.path), "points": points}, indent=2))
        return 0
    _print_table(folder, sweep, found)
    return 0


def list_all(flags: Any) -> int:
    """A line a sweep."""
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


def add_sweep(parser: Parser) -> None:
    """The argument SWEEP, and where it is looked for."""
    from launcher.runs import target

    parser.add_argument("sweep", metavar="SWEEP", help="a name, an id or a folder")
    target.add_run_root(parser)


def found_sweep(flags: Any) -> tuple[SweepFolder, Sweep]:
    """The sweep that SWEEP means."""
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


def _watch(folder: SweepFolder) -> int:
    from launcher.sweep.control import is_searched
    from launcher.sweep.folder import read
    from launcher.watch.points import watch_points

    return watch_points(lambda: read(folder), lambda sweep: is_searched(folder, sweep))
