"""`muster push`: the metrics of runs, replayed into W&B."""

from __future__ import annotations

HELP = "mirror runs' metrics to W&B, also afterwards; -f follows"
EXAMPLES = """
muster push demo
muster push demo -f          # from a login node, while the nodes of the run have no network
muster push demo-sweep       # every point of a sweep
"""


def run(argv: list[str]) -> int:
    """Replay the metrics of runs; may be repeated."""
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.send.push import push
    from launcher.sweep.members import find_runs

    parser = Parser("push", HELP, EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a name, an id, a folder or a Slurm job id; or a sweep")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the runs have ended")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    return push(find_runs(flags.runs, target.run_root(flags.run_root)), flags.follow)
