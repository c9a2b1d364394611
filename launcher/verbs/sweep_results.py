"""`muster sweep best` and `muster sweep report`: which point is the best, and all of them on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.flags import Parser
    from launcher.sweep.ranking import Criterion, Ranked
    from launcher.sweep.summary import Summary

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
    summary = _summary(flags)
    summary.write_picture()
    if flags.json:
        print(json.dumps(as_json(summary.ranked, summary.criterion), indent=2))
        return 0
    from launcher.show.show import print_table
    from launcher.sweep.table import best_table

    print_table(*best_table(summary.ranked, summary.criterion))
    print(f"\nby       {summary.criterion.words}")
    first = summary.ranked[0]
    if first.place is not None:
        print(f"best     {first.result.point.run_id}: {first.result.point.label}")
    print(f"picture  {summary.folder.picture}")
    return 0


def report(argv: list[str]) -> int:
    """Write the sweep's report.html and points.csv."""
    from launcher.flags import Parser

    parser = Parser("sweep report", "report.html with table, curves and importance; points.csv", REPORT_EXAMPLES)
    _add_flags(parser)
    summary = _summary(parser.parse_args(argv))
    summary.write_report()
    print(f"report   {summary.folder.report}\ntable    {summary.folder.table}")
    return 0


def as_json(ranked: Sequence[Ranked], criterion: Criterion) -> dict[str, Any]:
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


def _summary(flags: Any) -> Summary:
    from conf.schema import Direction
    from launcher.runs import target
    from launcher.sweep.folder import find
    from launcher.sweep.summary import summarize

    folder = find(flags.sweep, target.run_root(flags.run_root))
    return summarize(folder, flags.metric, Direction(flags.direction) if flags.direction else None)
