"""`muster logs`: what ranks, agents and the job script printed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import Attempt, RunFolder

HELP = "the end of a run's log; -f follows it"
EXAMPLES = """
muster logs demo
muster logs demo -f
muster logs demo --rank 1 --attempt 0
muster logs demo --first-error
"""
FOLLOW_S = 0.5


def run(argv: list[str]) -> int:
    """Print or follow a log."""
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("logs", HELP, EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a name, an id, a folder or a Slurm job id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("-n", "--lines", type=int, default=40, metavar="N", help="lines from the end (default 40)")
    parser.add_argument("--rank", type=int, metavar="N", help="this rank's log (default: rank 0)")
    parser.add_argument("--attempt", type=int, metavar="N", help="this attempt (default: the newest)")
    parser.add_argument("--first-error", action="store_true", help="the rank that failed first: its error and log")
    parser.add_argument(
        "--json", action="store_true", help="which log it is and its lines; with --first-error the cause"
    )
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    _require_sound(flags)
    folder = target.find(flags.run, flags.run_root)
    if flags.follow and flags.attempt is None:
        _wait_for_start(folder)
    attempt = _attempt(folder, flags.attempt)
    if flags.first_error:
        return _first_error(attempt, flags)
    return _log(folder, attempt, flags)


def _require_sound(flags: Any) -> None:
    """Refuse flags that do not go together, and a number of lines that is none."""
    from launcher.problems import ConfigurationError, Problem

    problems = []
    if flags.lines < 1:
        problems.append(Problem("--lines", str(flags.lines), "has to be 1 or more", "1"))
    if flags.follow and (flags.json or flags.first_error):
        other = "--json" if flags.json else "--first-error"
        problems.append(Problem("--follow", "", f"does not go with {other}, which ends at once"))
    if flags.first_error and flags.rank is not None:
        problems.append(Problem("--rank", str(flags.rank), "does not go with --first-error, which finds the rank"))
    if problems:
        raise ConfigurationError(problems)


def _attempt(folder: RunFolder, number: int | None) -> Attempt:
    from launcher.problems import NotFoundError
    from launcher.runs.read import list_attempts

    attempts = list_attempts(folder)
    if not attempts:
        raise NotFoundError(f"{folder.path.name} has not started yet; why: muster status {folder.path.name}")
    if number is None:
        return attempts[-1]
    found = next((attempt for attempt in attempts if attempt.number == number), None)
    if found is None:
        raise NotFoundError(f"no attempt {number}; there are 0 to {attempts[-1].number}")
    return found


def _first_error(attempt: Attempt, flags: Any) -> int:
    import dataclasses
    import json

    from launcher.problems import NotFoundError
    from launcher.runs.cause import find_root_cause
    from launcher.show.show import cause_lines

    cause = find_root_cause(attempt)
    if flags.json:
        found = dataclasses.asdict(cause) | {"cause": cause.cause.value, "log": str(cause.log)} if cause else None
        print(json.dumps(found, indent=2))
    elif cause is None:
        raise NotFoundError(f"nothing failed in attempt {attempt.number}")
    else:
        print("\n".join(cause_lines(cause, flags.lines)))
    return 0


def _log(folder: RunFolder, attempt: Attempt, flags: Any) -> int:
    import json

    from launcher.problems import NotFoundError
    from launcher.runs.read import last_text_lines, log_file

    path = log_file(attempt, flags.rank)
    if path is None:
        known = ", ".join(sorted(entry.name for entry in attempt.logs.glob("*.log"))) or "none yet"
        raise NotFoundError(f"attempt {attempt.number} has no log of rank {flags.rank or 0}; logs: {known}")
    lines = last_text_lines(path, flags.lines)
    if flags.json:
        print(json.dumps({"attempt": attempt.number, "path": str(path), "lines": lines}, indent=2))
        return 0
    print(f"==> {path} <==")
    print("\n".join(lines), flush=True)
    if flags.follow:
        _follow(folder, attempt, path, flags)
    return 0


def _wait_for_start(folder: RunFolder) -> None:
    """Stay until the run has its first log, or will never have one; says once what it waits for."""
    from launcher.runs.read import list_attempts, log_file
    from launcher.runs.standing import stand
    from launcher.send.scheduler import live_jobs

    told = False
    while not any(log_file(attempt) for attempt in list_attempts(folder)):
        standing = stand(folder, live_jobs([folder]))
        if not standing.live:
            return
        if not told:
            print(f"{standing.state.value} ({standing.job}) {standing.reason}".rstrip(), flush=True)
            told = True
        time.sleep(FOLLOW_S)


def _follow(folder: RunFolder, attempt: Attempt, path: Any, flags: Any) -> None:
    """Print what is appended until the run is over; without --attempt the next attempt's log follows on this one's."""
    from launcher.runs.read import Follower, list_attempts, log_file
    from launcher.runs.standing import stand
    from launcher.send.scheduler import live_jobs

    follower, over = Follower(path, from_end=True), False
    while True:
        newest = list_attempts(folder)[-1]
        better = log_file(attempt if flags.attempt is not None else newest, flags.rank)
        for raw in follower.read_raw():
            print(raw.decode(errors="replace"), flush=True)
        if better not in (None, path):
            # Ranks have logs only once they start; until then the agent's was shown.
            path, follower = better, Follower(better)
            print(f"==> {path} <==", flush=True)
            continue
        if over:
            return
        followed = flags.attempt is not None and flags.attempt < newest.number
        over = followed or not stand(folder, live_jobs([folder])).live
        if not over:
            time.sleep(FOLLOW_S)
