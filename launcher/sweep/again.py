"""What is done to a sweep after it was sent: failed points again, further points, an end of all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from conf.layout import RunFolder
from conf.record import read_plan
from conf.schema import ClusterKind, RunConfig
from launcher.compose.hydra_main import sort_words
from launcher.compose.points import points
from launcher.facts.gather import Gatherer
from launcher.problems import ConfigurationError, NotFoundError, Problem, SchedulerError
from launcher.runs.standing import live_submissions
from launcher.send import ask
from launcher.send.proposal import propose_config, require_fit, require_kind
from launcher.sweep.doubt import settle
from launcher.sweep.folder import SweepFolder, locked, read
from launcher.sweep.grid import Grid, Prepare, Ready, propose_grid, tracked_grid, with_own_names
from launcher.sweep.jobs import Jobs
from launcher.sweep.phase import Phase, asked_jobs, phase_of
from launcher.sweep.record import Sweep, identity
from launcher.sweep.submit import Submitted, add_points, ask_once, broken_off, member_from, send_unsent, unsent
from slurm.parse import Job


def retry_points(folder: SweepFolder, sweep: Sweep) -> Submitted:
    """Send the points that ended without being done, as they are in their folders, into new arrays.

    Raises:
        SchedulerError: Slurm refused or could not be reached.
    """
    with locked(folder):
        settle(folder)
        live = asked_jobs(point.folder for point in sweep.points)
        phases = {point.run_id: phase_of(point.folder, live) for point in sweep.points}
        # What has a folder but was never sent goes along; what has none needs the command that made the sweep.
        ended = [
            point
            for point in sweep.points
            if phases[point.run_id] is Phase.ended
            or (phases[point.run_id] is Phase.new and point.folder.run_json.is_file())
        ]
        phases = {run: Phase.new if phase is Phase.ended else phase for run, phase in phases.items()}
        submitted = Submitted(folder, True, phases)
        jobs = Jobs(folder, sweep.sweep, live, sent=submitted.sent)
        members = [member_from(point, read_plan(point.folder.run_json)) for point in ended]
        try:
            jobs.send(members)
        except SchedulerError as error:
            raise broken_off(error, submitted, len(members)) from error
        submitted.calls = jobs.calls
        return submitted


def extend_points(folder: SweepFolder, words: Sequence[str]) -> Submitted:
    """Add the points that the sweep's own words make with these in place of those of the same key, and send them.

    Slurm is asked before they are written down; where it breaks off afterwards, the same words go on.

    Raises:
        ConfigurationError: with every problem of every new point.
        SchedulerError: Slurm refused or could not be reached.
    """
    look = Gatherer()

    def prepare(config: RunConfig, own: list[str]) -> Ready:
        proposal = propose_config(config, look=look)
        require_kind(proposal.plan, ClusterKind.slurm, "run")
        require_fit(proposal)
        return Ready(proposal, own)

    with locked(folder):
        sweep = read(folder)  # what another command has added before
        _, ready = further_points(sweep, words, prepare)
        notes = ask_once(unsent(ready))
        add_points(folder, replace(sweep, points=[one.swept for one in ready]))
        return send_unsent(folder, read(folder), ready, goes_on=True, notes=notes)


def further_points(sweep: Sweep, words: Sequence[str], prepare: Prepare) -> tuple[Grid, list[Ready]]:
    """The points that the words add, prepared from the folder where the sweep was begun, which is entered.

    Points that an earlier command added and never sent or started are among them.

    Raises:
        ConfigurationError: with every problem of every new point.
        NotFoundError: that folder is gone.
    """
    if not words:
        raise ConfigurationError([Problem("extend", "", "needs values: muster sweep extend SWEEP -m key=value,value")])
    os.chdir(_require_cwd(sweep))
    started = [point for point in sweep.points if phase_of(point.folder, {}) is not Phase.new]
    grid = extended_grid(replace(sweep, points=started), words)
    return grid, propose_grid(grid, prepare) if grid.points else []


def cancel_points(sweep: Sweep) -> list[str]:
    """End every point that runs or waits; what happened, in words.

    Raises:
        SchedulerError: Slurm could not be asked.
    """
    folders = [point.folder for point in sweep.points if point.folder.run_json.is_file()]
    live = asked_jobs(folders)
    alive = [folder for folder in folders if phase_of(folder, live) is Phase.live or live_submissions(folder, live)]
    # What waits goes first: an element that waits for its turn would start as soon as one that runs has ended.
    alive.sort(key=lambda folder: not _waits(folder, live))
    return [ask.cancel(folder) for folder in alive]


def _waits(folder: RunFolder, live: Mapping[str, Job]) -> bool:
    return all(live[sent.job_id].is_pending for sent in live_submissions(folder, live))


def extended_grid(sweep: Sweep, words: Sequence[str]) -> Grid:
    """The points that the words add; each has the name it would have in a sweep of all of them.

    Raises:
        ConfigurationError: with every problem of the words.
    """
    own = sort_words(sweep.words)
    before, config_dir = own.overrides, own.config_dir
    new = {_key(word): word for word in words}
    wider = list(dict.fromkeys(new.get(_key(word), word) for word in before)) + [
        word for key, word in new.items() if key not in map(_key, before)
    ]
    first = points(before, config_dir)
    every = {identity(point.config): point for point in [*first, *points(wider, config_dir)]}
    known = {*(identity(point.config) for point in first), *(point.identity for point in sweep.points)}
    common = set.intersection(*(set(point.words) for point in every.values()))
    apart = [
        replace(point, overrides=tuple(word for word in point.words if word not in common)) for point in every.values()
    ]
    named = zip(every, with_own_names(apart), strict=True)
    return tracked_grid(Grid(sweep.id, [point for one, point in named if one not in known], wider, config_dir))


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _require_cwd(sweep: Sweep) -> Path:
    folder = Path(sweep.cwd)
    if not folder.is_dir():
        raise NotFoundError(f"{folder}, where the sweep was submitted, is gone; its files are named from there")
    return folder
