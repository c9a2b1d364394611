"""A search from its command line to its end: checked, its controller started here or as a small Slurm job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from conf.record import Plan
from launcher.problems import MusterError, NotFoundError
from launcher.send.interrupts import NUMBERS, handled
from launcher.send.proposal import propose_config
from launcher.send.scheduler import client_of
from launcher.sweep.control import Controller, alone, patiently_locked
from launcher.sweep.folder import SweepFolder, create, folder_of, read, write_sweep
from launcher.sweep.grid import Prepare, Ready, propose_grid
from launcher.sweep.record import Sweep
from launcher.sweep.search import Search, read_search
from launcher.sweep.space import in_words
from launcher.sweep.starter import LocalStarter, SlurmStarter
from launcher.sweep.study import Study, make_pruner, make_sampler, require_optuna
from launcher.sweep.summary import summarize


def check_search(search: Search, prepare: Prepare) -> list[Ready]:
    """Both ends of each domain, planned and checked as single runs; the first stands for all.

    Raises:
        ConfigurationError: with every problem of every one of them.
        MusterError: Optuna is not installed.
    """
    require_optuna()
    make_sampler(search.sweep, 0)
    make_pruner(search.sweep)
    return propose_grid(search.corners(), prepare)


def make_folder(search: Search, plan: Plan, verb: str) -> tuple[SweepFolder, bool]:
    """The search's folder, and whether it was there."""
    folder = folder_of(plan.config.run_root, search.id)
    sweep = Sweep(search.id, verb, search.words, str(Path.cwd()), [], search.sweep)
    made = create(folder, sweep, plan.config.access)
    if not made:
        with patiently_locked(folder):
            write_sweep(folder, Sweep(search.id, verb, search.words, sweep.cwd, read(folder).points, search.sweep))
    return folder, not made


def plan_of(sweep: Sweep) -> Plan:
    """The plan of one end of a search: which cluster, account and partition it is about.

    Raises:
        ConfigurationError: it does not compose or plan any more.
    """
    search = _search_of(sweep)
    return propose_config(search.corners().points[0].config).plan


def control(folder: SweepFolder, say: Callable[[str], None] = print, job: str | None = None) -> int:
    """Be the controller of a search until it ends, or until a signal says to leave; the exit code.

    `job` is the Slurm job that this is, which goes back into the queue where its time limit comes near.

    Raises:
        MusterError: another controller works on it, or nothing can be optimised.
    """
    require_optuna()
    sweep = read(folder)
    search = _search_of(sweep)
    signals: list[int] = []
    with alone(folder):
        starter = LocalStarter() if sweep.verb == "run" else SlurmStarter()
        study = Study(folder, search.sweep, search.space, search.criterion.greater)
        controller = Controller(folder, search, study, starter, say)

        def asked_to_leave(number: int) -> None:
            controller.leaving = True
            if isinstance(starter, LocalStarter):
                starter.stop_all()
            signals.append(number)

        with handled((*NUMBERS, signal.SIGUSR1), asked_to_leave):
            finished = controller.run()
        states = ", ".join(f"{count} {state}" for state, count in sorted(study.states().items()))
        say(f"{sweep.id}: {states}")
        if finished:
            _report(folder, say)
        elif signal.SIGUSR1 in signals and job is not None:
            client_of(plan_of(sweep)).requeue(job)
        return 0 if finished else 1


def _search_of(sweep: Sweep) -> Search:
    """The search of a sweep, composed where it was."""
    os.chdir(sweep.cwd)
    search = read_search(sweep.words)
    if search.id != sweep.id:
        raise MusterError(f"{sweep.id} composes to another search now, {search.id}: its files or defaults have changed")
    return search


def _report(folder: SweepFolder, say: Callable[[str], None]) -> None:
    try:
        summary = summarize(folder)
    except NotFoundError as error:
        say(str(error))
        return
    summary.write_picture()
    summary.write_report()
    best = summary.ranked[0]
    if best.place is not None:
        say(f"best     {best.result.point.label}: {summary.criterion.metric} {best.value:.6g}")
    say(f"report   {folder.report}")


def started_lines(search: Search, folder: SweepFolder, goes_on: bool, job: str = "") -> Sequence[str]:
    """What a person sees of a search that was started."""
    sweep = search.sweep
    lines = [f"{search.id} · {sweep.trials} trials, {sweep.parallel_trials} at a time · {folder.path}"]
    width = max(map(len, search.space))
    lines += [f"  {key:<{width}}  {in_words(domain)}" for key, domain in search.space.items()]
    lines.append(f"by {search.criterion.words}{'; goes on' if goes_on else ''}")
    if job:
        lines += [
            f"\ncontroller job {job}",
            f"watch   muster sweep status {search.id} -w",
            f"best    muster sweep best {search.id}",
            f"end     muster sweep cancel {search.id}",
        ]
    return lines
