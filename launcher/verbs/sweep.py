"""`muster sweep`: many runs that were sent by one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.verbs.sweep_status import add_sweep, found_sweep, list_all, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.sweep.record import Sweep

HELP = "the sweeps of -m: status, best, retry, extend, report …"
EXAMPLES = """
muster sweep                                           # all sweeps
muster sweep status demo -w
muster sweep best demo --metric eval/accuracy --direction maximize --json
muster sweep retry demo
muster sweep extend demo -m optim.learning_rate=1e-4
muster sweep export demo --best eval/loss
"""


def run(argv: list[str]) -> int:
    """Do one of the actions; without one, list the sweeps."""
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in ACTIONS else ("", argv)
    if name:
        return ACTIONS[name](rest)
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("sweep", HELP, EXAMPLES)
    parser.usage = f"muster sweep [flags], muster sweep {'|'.join(ACTIONS)} SWEEP [flags]"
    parser.add_argument("--json", action="store_true", help="a list with one object a sweep")
    target.add_run_root(parser)
    if rest and not rest[0].startswith("-"):
        parser.error(f"{rest[0]!r} is no action; there are {', '.join(ACTIONS)}")
    return list_all(parser.parse_args(rest))


def retry(argv: list[str]) -> int:
    """Send the points again that ended without being done."""
    from launcher.flags import Parser
    from launcher.sweep.again import retry_points
    from launcher.sweep.pages import submitted_lines

    parser = Parser("sweep retry", "send again what failed, was stopped, cancelled or lost", "muster sweep retry demo")
    add_sweep(parser)
    folder, sweep = found_sweep(parser.parse_args(argv))
    if sweep.verb == "run":
        from launcher.sweep import here

        _require_grid(sweep)
        return here.retry_points(folder, sweep)
    submitted = retry_points(folder, sweep)
    print("\n".join(submitted_lines(sweep, submitted)))
    return 0


def extend(argv: list[str]) -> int:
    """Add the points that further values make."""
    from launcher.compose.hydra_main import sort_words
    from launcher.compose.overrides import split
    from launcher.flags import Parser

    parser = Parser("sweep extend", "more values of a sweep; points that are there stay", "")
    parser.usage = "muster sweep extend SWEEP -m key=value,value …"
    add_sweep(parser)
    flags, words = split(parser, argv)
    from launcher.sweep.again import extend_points
    from launcher.sweep.folder import read
    from launcher.sweep.pages import submitted_lines

    folder, sweep = found_sweep(flags)
    _require_grid(sweep)
    if sweep.verb == "run":
        from launcher.verbs.run import extend_sweep

        return extend_sweep(sweep, sort_words(words).overrides)
    submitted = extend_points(folder, sort_words(words).overrides)
    print("\n".join(submitted_lines(read(folder), submitted)))
    return 0


def _require_grid(sweep: Sweep) -> None:
    if sweep.sweep.sampler is not None:
        from launcher.problems import MusterError

        raise MusterError(
            f"{sweep.id} is Optuna's; the command that made it with a larger sweep.trials goes on with it"
        )


def cancel(argv: list[str]) -> int:
    """End every point that runs or waits."""
    from launcher.flags import Parser
    from launcher.sweep.again import cancel_points

    parser = Parser("sweep cancel", "end what runs or waits, without saving", "muster sweep cancel demo")
    add_sweep(parser)
    folder, sweep = found_sweep(parser.parse_args(argv))
    from launcher.sweep.folder import read
    from launcher.verbs.sweep_search import end_controller

    ended = end_controller(folder)  # first, so that it sends nothing in their place
    ended += cancel_points(read(folder))
    print("\n".join(ended) if ended else f"nothing of {sweep.id} runs or waits")
    return 0


def export(argv: list[str]) -> int:
    """Export the model of the best point."""
    from launcher.flags import Parser
    from launcher.sweep.summary import results_of
    from launcher.verbs import export as export_verb

    parser = Parser("sweep export", "write the model of the best point", "muster sweep export demo --best eval/loss")
    add_sweep(parser)
    parser.add_argument(
        "--best", metavar="METRIC", nargs="?", const=None, help="the metric that decides (default: eval/loss)"
    )
    parser.add_argument("--direction", choices=("minimize", "maximize"), help="what is better (default: by its name)")
    flags = parser.parse_args(argv)
    from conf.schema import Direction
    from launcher.problems import NotFoundError
    from launcher.sweep.ranking import criterion_of, rank

    _, sweep = found_sweep(flags)
    results = results_of(sweep)
    direction = Direction(flags.direction) if flags.direction else None
    criterion = criterion_of(sweep.sweep, results, flags.best, direction)
    first = rank(results, criterion)[0]
    if first.place is None or first.value is None:
        raise NotFoundError(f"no point of {sweep.id} is done with {criterion.metric}")
    point = first.result.point
    print(f"{point.run_id} is the best by {criterion.words}: {first.value:.6g} ({point.label})", flush=True)
    if (point.folder.export / "config.json").is_file():
        print(f"its model is there already: {point.folder.export}")
        return 0
    return export_verb.run([point.run_dir])


def best(argv: list[str]) -> int:
    """The points by a metric."""
    from launcher.verbs import sweep_results

    return sweep_results.best(argv)


def resume(argv: list[str]) -> int:
    """Go on with a search whose controller is gone."""
    from launcher.verbs import sweep_search

    return sweep_search.resume(argv)


def control(argv: list[str]) -> int:
    """Be the controller of a search."""
    from launcher.verbs import sweep_search

    return sweep_search.control_verb(argv)


def report(argv: list[str]) -> int:
    """The report of a sweep."""
    from launcher.verbs import sweep_results

    return sweep_results.report(argv)


ACTIONS: dict[str, Callable[[list[str]], int]] = {
    "status": status,
    "best": best,
    "retry": retry,
    "extend": extend,
    "cancel": cancel,
    "export": export,
    "report": report,
    "resume": resume,
    "control": control,
}
