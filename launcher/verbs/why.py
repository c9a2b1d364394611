"""`muster why`: why a run ended, or does not start, and what to change."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder
    from launcher.sweep.record import Sweep

HELP = "why a run failed, ended or waits, and what to change"
EXAMPLES = """
muster why demo
muster why demo --attempt 0
muster why 4711 --json
muster why my-sweep
"""


def run(argv: list[str]) -> int:
    """Print the diagnosis of a run."""
    from launcher.flags import Parser
    from launcher.problems import NotFoundError
    from launcher.runs import target

    parser = Parser("why", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id; or a sweep")
    parser.add_argument("--attempt", type=int, metavar="N", help="this attempt (default: the newest that ended)")
    parser.add_argument("--json", action="store_true", help="one object; of a sweep one for each point that failed")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    try:
        folder = target.find(flags.run, flags.run_root)
    except NotFoundError:
        sweep = _sweep(flags)
        if sweep is None:
            raise
        return _of_points(sweep, flags)
    return _of_run(folder, flags)


def _of_run(folder: RunFolder, flags: Any) -> int:
    from launcher.send.scheduler import live_jobs
    from launcher.show.show import Page
    from launcher.show.why_page import print_diagnosis
    from launcher.why.diagnosis import diagnose
    from launcher.why.flat import flat

    diagnosis = diagnose(folder, live_jobs([folder]), flags.attempt)
    if flags.json:
        print(json.dumps(flat(diagnosis), indent=2))
    else:
        print_diagnosis(Page(sys.stdout), diagnosis)
    return 0


def _sweep(flags: Any) -> Sweep | None:
    """The sweep of that name, where there is one."""
    from launcher.problems import NotFoundError
    from launcher.runs import target
    from launcher.sweep.folder import find, read

    try:
        return read(find(flags.run, target.run_root(flags.run_root)))
    except NotFoundError:
        return None


def _of_points(sweep: Sweep, flags: Any) -> int:
    from launcher.why.flat import flat
    from launcher.why.points import failed_points, point_lines

    failed = failed_points(sweep)
    if flags.json:
        points = [{"point": each.point.label, **flat(each.diagnosis)} for each in failed]
        print(json.dumps({"sweep": sweep.id, "points": points}, indent=2))
    else:
        print("\n".join(point_lines(failed, len(sweep.points))))
    return 0
