"""Sweeps whose points Optuna chooses: what `plan`, `run` and `submit` do with them, `sweep resume`, `sweep control`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.sweep.folder import SweepFolder
    from launcher.sweep.grid import Ready
    from launcher.sweep.search import Search


def plan_search(search: Search, ready: list[Ready]) -> int:
    """The first corner's page, and what is searched. Writes nothing."""
    from launcher.show.plan_page import print_plan
    from launcher.sweep.folder import folder_of
    from launcher.sweep.optimize import started_lines

    first = ready[0]
    print_plan(first.proposal)
    print(f"\nThat was one end of what is searched: {first.point}; {len(ready)} ends are sound.\n")
    folder = folder_of(first.proposal.plan.config.run_root, search.id)
    print("\n".join(started_lines(search, folder, folder.sweep_json.is_file())))
    return 0


def run_search(search: Search, ready: list[Ready]) -> int:
    """Search here, in the foreground."""
    from launcher.sweep.optimize import control, make_folder, started_lines

    folder, goes_on = make_folder(search, ready[0].proposal.plan, "run")
    print("\n".join(started_lines(search, folder, goes_on)), flush=True)
    return control(folder, _say)


def submit_search(search: Search, ready: list[Ready], as_json: bool) -> int:
    """Send the controller."""
    import json

    from launcher.send.submit import ask_first
    from launcher.sweep.controller_job import ask_for_controller, send_controller
    from launcher.sweep.folder import folder_of
    from launcher.sweep.optimize import make_folder, started_lines

    proposal = ready[0].proposal
    plan = proposal.plan
    if not folder_of(plan.config.run_root, search.id).sweep_json.is_file():
        ask_first(plan, proposal.artifacts)
    folder, goes_on = make_folder(search, plan, "submit")
    ask_for_controller(folder, plan)
    job, there = send_controller(folder, plan)
    if as_json:
        print(json.dumps({"sweep": search.id, "folder": str(folder.path), "goes_on": goes_on, "controller": job}))
        return 0
    print("\n".join(started_lines(search, folder, goes_on, f"{job}, which was there already" if there else job)))
    return 0


def resume(argv: list[str]) -> int:
    """Go on with a search whose controller is gone."""
    from launcher.flags import Parser
    from launcher.problems import MusterError
    from launcher.runs import target
    from launcher.sweep.folder import find, read
    from launcher.sweep.optimize import control

    about = "go on with a search (sweep=optuna) whose controller has ended"
    parser = Parser("sweep resume", about, "muster sweep resume demo")
    parser.add_argument("sweep", metavar="SWEEP", help="a name, an id or a folder")
    target.add_run_root(parser)
    flags = parser.parse_args(argv)
    folder = find(flags.sweep, target.run_root(flags.run_root))
    sweep = read(folder)
    if sweep.sweep.sampler is None:
        raise MusterError(f"{sweep.id} is a grid: the command that made it goes on with it; failed points: sweep retry")
    if sweep.verb == "run":
        return control(folder, _say)
    from launcher.sweep.controller_job import send_controller
    from launcher.sweep.optimize import plan_of

    job, there = send_controller(folder, plan_of(sweep))
    print(f"controller job {job}{', which was there already' if there else ''}")
    return 0


def control_verb(argv: list[str]) -> int:
    """Be a controller; what its job runs."""
    from launcher.flags import Parser
    from launcher.sweep.folder import find
    from launcher.sweep.optimize import control

    parser = Parser("sweep control", "choose, send and prune the trials of a search until it ends", "")
    parser.add_argument("sweep", metavar="SWEEP", help="a folder")
    parser.add_argument("--job", metavar="ID", help="the Slurm job that this is")
    flags = parser.parse_args(argv)
    folder = find(flags.sweep, ".")
    return control(folder, _say, flags.job)


def end_controller(folder: SweepFolder) -> list[str]:
    """End the controller of a search, so that it starts nothing more; what happened, in words."""
    from launcher.sweep.controller_job import cancel_controller
    from launcher.sweep.folder import read
    from launcher.sweep.optimize import plan_of

    sweep = read(folder)
    if sweep.sweep.sampler is None:
        return []
    if sweep.verb == "run":
        from launcher.sweep.control import ask_to_leave

        return ask_to_leave(folder)
    return cancel_controller(folder, plan_of(sweep))


def _say(text: str) -> None:
    print(text, flush=True)
