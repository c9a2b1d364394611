"""`muster cancel`: end now, without saving."""

from __future__ import annotations

HELP = "end a run now, without saving; it is not requeued"
EXAMPLES = """
muster cancel demo
muster cancel 1234        # a Slurm job id
"""


def run(argv: list[str]) -> int:
    """End runs at once."""
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("cancel", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", nargs="+", help="a name, an id, a folder or a Slurm job id")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    from launcher.send.ask import cancel
    from launcher.verbs.stop import end_each

    return end_each(flags, cancel)
