"""`muster stop`: save and end."""

from __future__ import annotations

HELP = "save and end a run; `resume` goes on from there"
EXAMPLES = """
muster stop demo
muster stop 1234          # a Slurm job id
"""


def run(argv: list[str]) -> int:
    """Ask a run to save and end."""
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("stop", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", nargs="+", help="a name, an id, a folder or a Slurm job id")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    from launcher.send.ask import stop

    for argument in flags.run:
        print(stop(target.find(argument, flags.run_root)))
    return 0
