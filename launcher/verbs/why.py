"""`muster why`: why a run ended, or does not start, and what to change."""

from __future__ import annotations

import json
import sys

HELP = "why a run failed, ended or waits: the first cause, what shows it, what to change"
EXAMPLES = """
muster why demo
muster why demo --attempt 0
muster why 4711 --json
"""


def run(argv: list[str]) -> int:
    """Print the diagnosis of a run."""
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.send.scheduler import live_jobs
    from launcher.show.show import Page
    from launcher.show.why_page import print_diagnosis
    from launcher.why.diagnosis import diagnose
    from launcher.why.flat import flat

    parser = Parser("why", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("--attempt", type=int, metavar="N", help="this attempt (default: the newest that ended)")
    parser.add_argument("--json", action="store_true", help="one object")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    folder = target.find(flags.run, flags.run_root)
    diagnosis = diagnose(folder, live_jobs([folder]), flags.attempt)
    if flags.json:
        print(json.dumps(flat(diagnosis), indent=2))
    else:
        print_diagnosis(Page(sys.stdout), diagnosis)
    return 0
