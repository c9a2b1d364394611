"""`muster sweep best` and `muster sweep report`: which point is the best, and all of them on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.flags import Parser
    from launcher.sweep.folder import SweepFolder
    from launcher.sweep.ranking import Criterion, Ranked
    from launcher.sweep.record import Sweep

BEST_EXAMPLES = """
muster sweep best demo
muster sweep best demo --metric eval/accuracy
muster sweep best demo --metric perf/tokens_per_second --direction maximize --json
"""
REPORT_EXAMPLES = """
muster sweep report demo
muster sweep report demo --metric eval/rougeL
"""


def best(argv: list[str]) -> int:
    """Print the points by a metric, best first, and write the picture that compares them."""
    import json

    from launcher.flags import Parser

    parser = Parser("sweep best", "the points by a metric, best first, with a picture", BEST_EXAMPLES)
    _add_flags(parser)
    parser.add_argument("--json", action="store_true", help="metric, direction, and a list with one object a point")
    flags = parser.parse_args(argv)
    folder, _, ranked, criterion = _read(flags)
    from launcher.sweep.picture import comparison_picture

    folder.write(folder.picture, comparison_picture(ranked, criterion).encode())
    if flags.json:
        print(json.dumps(as_json(ranked, criterion), indent=2))
        return 0
    from launcher.show.show import print_table
    from launcher.sweep.table import best_table

    print_table(*best_table(ranked, criterion))
    print(f"\nby       {criterion.words}")
    if ranked[0].place is not None:
        print(f"best     {ranked[0].result.point.run_id}: {ranked[0].result.point.label}")
    print(f"picture  {folder.picture}")
    return 0


def report(argv: list[str]) -> int:
    """Write the sweep's report.html and points.csv."""
    from launcher.flags import Parser

    parser = Parser("sweep report", "report.html with table, curves and importance; points.csv", REPORT_EXAMPLES)
    _add_flags(parser)
    flags = parser.parse_args(argv)
    folder, sweep, ranked, criterion = _read(flags)
    from launcher.sweep.ranking import WITHOUT_EVALUATION
    from launcher.sweep.report import report_page
    from launcher.sweep.results import read_curve
    from launcher.sweep.table import csv_table

    metrics = dict.fromkeys((criterion.metric, WITHOUT_EVALUATION))
    curves = {
        name: {one.point.run_id: read_curve(one.point.folder, name) for one in _points(ranked)} for name in metrics
    }
    shown = {name: runs for name, runs in curves.items() if any(runs.values())}
    folder.write(folder.table, csv_table(ranked).encode())
    folder.write(folder.report, report_page(sweep, ranked, criterion, shown).encode())
    print(f"report   {folder.report}\ntable    {folder.table}")
    return 0


def as_json(ranked: list[Ranked], criterion: Criterion) -> dict[str, Any]:
    """What `--json` prints; values that are no finite numbers become null, since JSON has none."""
    import math

    points = [
        {
            "place": one.place,
            "run": one.result.point.run_id,
            "folder": one.result.point.run_dir,
            "overrides": one.result.point.overrides,
            "state": one.result.state,
            "step": one.result.step,
            "value": one.value if one.value is not None and math.isfinite(one.value) else None,
            "metrics": {name: value for name, value in one.result.metrics.items() if math.isfinite(value)},
        }
        for one in ranked
    ]
    return {"metric": criterion.metric, "direction": "maximize" if criterion.greater else "minimize", "points": points}


def _add_flags(parser: Parser) -> None:
    from launcher.runs import target

    parser.add_argument("sweep", metavar="SWEEP", help="a name, an id or a folder")
    parser.add_argument("--metric", metavar="NAME", help="any of metrics.jsonl (default: sweep.metric, else eval/loss)")
    parser.add_argument("--direction", choices=("minimize", "maximize"), help="what is better (default: by its name)")
    target.add_run_root(parser)


def _points(ranked: list[Ranked]) -> list[Any]:
    return [one.result for one in ranked]


def _read(flags: Any) -> tuple[SweepFolder, Sweep, list[Ranked], Criterion]:
    from conf.schema import Direction
    from launcher.runs import target
    from launcher.sweep.folder import find, read
    from launcher.sweep.ranking import criterion_of, rank

    folder = find(flags.sweep, target.run_root(flags.run_root))
    sweep = read(folder)
    results = results_of(sweep)
    direction = Direction(flags.direction) if flags.direction else None
    criterion = criterion_of(sweep.sweep, results, flags.metric, direction)
    return folder, sweep, rank(results, criterion), criterion


def results_of(sweep: Sweep) -> list[Any]:
    """Every point of a sweep as it stands."""
    from launcher.send.scheduler import live_jobs
    from launcher.sweep.results import read_results

    there = [point.folder for point in sweep.points if point.folder.run_json.is_file()]
    return list(read_results(sweep.points, live_jobs(there)))
