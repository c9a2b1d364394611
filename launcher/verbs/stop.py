"""`muster stop`: save and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from conf.layout import RunFolder

HELP = "save and end a run; `resume` goes on from there"
EXAMPLES = """
muster stop demo
muster stop 1234          # a Slurm job id
"""


def run(argv: list[str]) -> int:
    """Ask runs to save and end."""
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("stop", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", nargs="+", help="a name, an id, a folder or a Slurm job id")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    from launcher.send.ask import stop

    return end_each(flags, stop)


def end_each(flags: Any, end: Callable[[RunFolder], str]) -> int:
    """End every run that the words mean, whatever becomes of the others; the highest exit code."""
    from launcher.cli import report
    from launcher.runs import target

    folders = target.find_each(flags.run, flags.run_root)
    codes = [0]
    for folder in folders:
        try:
            print(end(folder), flush=True)
        except Exception as error:
            if len(folders) == 1:
                raise
            codes.append(report(error))
    return max(codes)
