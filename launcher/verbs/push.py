"""`muster push`: the metrics of a run, replayed into W&B."""

from __future__ import annotations

HELP = "mirror a run's metrics to W&B, also after a run without a network; -f follows"
EXAMPLES = """
muster push demo
muster push demo -f          # from a login node, while the nodes of the run have no network
"""


def run(argv: list[str]) -> int:
    """Replay the metrics of a run; may be repeated."""
    from launcher.flags import Parser
    from launcher.runs import target
    from launcher.send.push import push

    parser = Parser("push", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    return push(target.find(flags.run, flags.run_root), flags.follow)
