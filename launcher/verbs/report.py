"""`muster report`: a run or a sweep on one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder

HELP = "one HTML page of a run or a sweep, with its curves"
EXAMPLES = """
muster report demo
muster report demo --against other    # the other run's curves in grey, and what differs
muster report demo -o demo.html    # write it there instead of RUN/report.html
muster report my-sweep    # the same as `muster sweep report my-sweep`
"""


def run(argv: list[str]) -> int:
    """Write the report of a run, or of a sweep of that name."""
    from launcher.flags import Parser
    from launcher.problems import NotFoundError
    from launcher.runs import target

    parser = Parser("report", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id; or a sweep")
    parser.add_argument("--against", metavar="RUN", help="another run to compare with")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: report.html in its folder)")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    try:
        folder = target.find(flags.run, flags.run_root)
    except NotFoundError:
        if not _sweep(flags):
            raise
        return 0
    path = _write(folder, flags)
    print(f"report   {path}")
    return 0


def _write(folder: RunFolder, flags: Any) -> Path:
    """Beside what it is about it is as readable as the run; elsewhere for the person alone, since it holds its data.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    import time

    from conf.files import write_atomically
    from launcher.problems import ConfigurationError, Problem
    from launcher.report.run_report import run_report
    from launcher.report.story import read_story
    from launcher.runs import target
    from launcher.send.scheduler import live_jobs

    other = target.find(flags.against, flags.run_root) if flags.against else None
    jobs = live_jobs([folder, *([other] if other else [])])
    story = read_story(folder, jobs)
    page = run_report(story, read_story(other, jobs) if other else None, time.time())
    path = Path(flags.output).expanduser() if flags.output else folder.report
    mode = 0o600 if flags.output else folder.path.stat().st_mode & 0o666
    try:
        write_atomically(path, page.encode(), mode)
    except OSError as error:
        rule = f"cannot be written in {path.parent.absolute()}: {error.strerror}"
        raise ConfigurationError([Problem("--output", str(path), rule)]) from error
    return path


def _sweep(flags: Any) -> bool:
    """Write the report of the sweep of that name; False where there is none."""
    from launcher.problems import ConfigurationError, NotFoundError, Problem
    from launcher.runs import target
    from launcher.sweep.folder import find
    from launcher.sweep.summary import summarize

    try:
        folder = find(flags.run, target.run_root(flags.run_root))
    except NotFoundError:
        return False
    if flags.against or flags.output:
        rule = "goes with a run; the report of a sweep lies in its folder and compares all its points"
        given = ("--against", flags.against) if flags.against else ("--output", flags.output)
        raise ConfigurationError([Problem(given[0], given[1], rule)])
    summary = summarize(folder)
    summary.write_report()
    print(f"report   {summary.folder.report}\ntable    {summary.folder.table}")
    return True
