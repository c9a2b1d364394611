"""`muster doctor`: what this machine or site can do, and what follows from what is missing."""

from __future__ import annotations

import json
import sys

HELP = "what this machine can do: Python, packages, memory, GPUs, Slurm, keys"
EXAMPLES = """
muster doctor
muster doctor --python /opt/venv/bin/python      # where the ranks have another Python
muster doctor --json
"""


def run(argv: list[str]) -> int:
    """Look around; exit code 0 also where something is missing, since not everybody needs all of it."""
    from launcher.flags import Parser
    from launcher.runs.target import DEFAULT_ROOT
    from launcher.show.doctor import examine
    from launcher.show.show import Page

    parser = Parser("doctor", HELP, EXAMPLES)
    parser.add_argument("--python", metavar="FILE", default=sys.executable, help="Python of the ranks (cluster.python)")
    parser.add_argument("--run-root", metavar="DIR", default=DEFAULT_ROOT, help="folder whose free space counts")
    parser.add_argument("--json", action="store_true", help="a list with topic, ok, found, follows")
    flags = parser.parse_args(argv)
    findings = examine(flags.python, flags.run_root)
    if flags.json:
        print(json.dumps([finding.as_json() for finding in findings], indent=2))
        return 0
    Page(sys.stdout).rows("", [(finding.topic, finding.text()) for finding in findings])
    return 0
