"""`muster dashboard`: a workspace and a report on W&B for runs or a sweep."""

from __future__ import annotations

HELP = "a workspace and a report on W&B, of runs and sweeps"
EXAMPLES = """
muster dashboard demo
muster dashboard demo-sweep            # with parallel coordinates and the importance of parameters
muster dashboard demo --dry-run        # print it as JSON: no network, no key
"""


def run(argv: list[str]) -> int:
    """Save a dashboard, over the one that was saved before; without a word it is about all runs of the project."""
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.send.dashboard import show_dashboard

    parser = Parser("dashboard", HELP, EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="names, ids, folders or Slurm job ids; or one sweep")
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON instead: no network, no key")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    return show_dashboard(flags.runs, target.run_root(flags.run_root), flags.dry_run)
