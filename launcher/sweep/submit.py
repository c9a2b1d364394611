"""Submitting a sweep: a new one, or one that goes on where a command before this one broke off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from conf.layout import RunFolder
from conf.record import Plan
from launcher.problems import MusterError, SchedulerError
from launcher.runs import rundir
from launcher.runs.saved import require_loadable
from launcher.send.submit import ask_first
from launcher.sweep.arrays import Member
from launcher.sweep.doubt import settle
from launcher.sweep.folder import SweepFolder, create, folder_of, locked, read, write_sweep
from launcher.sweep.grid import Grid, Ready
from launcher.sweep.jobs import Jobs, Sending
from launcher.sweep.phase import Phase, asked_jobs, phase_of
from launcher.sweep.record import Sweep, SweptPoint


@dataclass
class Submitted:
    """What a command did for a sweep: whether it was there, how its points stood, what was sent now.

    `notes` are what the scheduler said of each kind of points, `asked` how often it was asked, `calls` how many sbatch
    were sent.
    """

    folder: SweepFolder
    goes_on: bool
    phases: dict[str, Phase]
    sent: list[Sending] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    asked: int = 0
    calls: int = 0

    @property
    def counts(self) -> Counter[Phase]:
        """How many points stood how, before anything was sent."""
        return Counter(self.phases.values())

    @property
    def sent_now(self) -> int:
        """How many points were sent."""
        return sum(len(sending.members) for sending in self.sent)


def new_sweep(grid: Grid, ready: Sequence[Ready], verb: str) -> tuple[SweepFolder, Sweep]:
    """The sweep of a grid, and where its folder is or will be."""
    config = ready[0].proposal.plan.config
    sweep = Sweep(
        id=grid.id,
        verb=verb,
        words=grid.all_words,
        cwd=str(Path.cwd()),
        points=[one.swept for one in ready],
        sweep=config.sweep,
    )
    return folder_of(config.run_root, grid.id), sweep


def submit(grid: Grid, ready: Sequence[Ready]) -> Submitted:
    """Send every point that was never sent; asks Slurm first, once for each kind of points.

    Raises:
        SchedulerError: Slurm refused or could not be reached; the same command goes on from there.
        MusterError: another command works on the sweep, or a folder cannot be made.
    """
    folder, sweep = new_sweep(grid, ready, "submit")
    goes_on = folder.sweep_json.is_file()
    notes = None if goes_on else ask_once(unsent(ready))
    made = create(folder, sweep, ready[0].proposal.plan.config.access)
    with locked(folder):
        if not made:
            add_points(folder, sweep)
        return send_unsent(folder, read(folder), ready, goes_on=goes_on, notes=notes)


def send_unsent(
    folder: SweepFolder, sweep: Sweep, ready: Sequence[Ready], *, goes_on: bool, notes: list[str] | None = None
) -> Submitted:
    """Make the runs of the points that were never sent, and send them; the caller holds the sweep's lock.

    `notes` are what Slurm said of them, where it was asked already.

    Raises:
        SchedulerError: Slurm refused or could not be reached.
    """
    settle(folder)
    # Where the run root was moved, the points of now lie elsewhere than those that are written down.
    points = [*sweep.points, *(one.swept for one in ready)]
    folders = {point.run_id: point.folder for point in points}
    live = asked_jobs(folders.values())
    phases = {run: phase_of(folder, live) for run, folder in folders.items()}
    new = [one for one in ready if phases[one.swept.run_id] is Phase.new]
    submitted = Submitted(folder, goes_on, phases)
    submitted.notes = ask_once(new) if notes is None else notes
    submitted.asked = len(submitted.notes)
    links: rundir.Links = {}
    for one in new:
        require_loadable(one.swept.folder, one.proposal.plan)
        rundir.create(one.proposal.plan, one.proposal.artifacts, links)
    jobs = Jobs(folder, sweep.sweep, live, sent=submitted.sent)
    try:
        jobs.send([member_of(one) for one in new])
    except SchedulerError as error:
        raise broken_off(error, submitted, len(new)) from error
    finally:
        submitted.calls = jobs.calls
    return submitted


def ask_once(unsent: Sequence[Ready]) -> list[str]:
    """Ask sbatch about one point of each kind; what it said of each.

    Raises:
        SchedulerError: it would refuse some; Slurm's words, and the key they are about.
    """
    kinds: dict[tuple[str, ...], Ready] = {}
    for one in unsent:
        kinds.setdefault(member_of(one).resources, one)
    notes = []
    for one in kinds.values():
        try:
            notes.append(ask_first(one.proposal.plan, one.proposal.artifacts).removeprefix(", "))
        except SchedulerError as error:
            error.args = (f"[{one.point}] {error}",)
            raise
    return notes


def member_of(one: Ready) -> Member:
    """A point that is to be sent."""
    script = RunFolder(Path(one.proposal.plan.run_dir)).job_sbatch.name
    return Member(one.swept, one.proposal.plan, one.proposal.artifacts[script].decode())


def member_from(point: SweptPoint, plan: Plan) -> Member:
    """A point whose run folder is there, as it is there.

    Raises:
        MusterError: it is a run of this machine.
    """
    try:
        return Member(point, plan, point.folder.job_sbatch.read_text())
    except FileNotFoundError as error:
        raise MusterError(f"{point.run_id} has no script for Slurm: it was made on this machine") from error


def broken_off(error: SchedulerError, submitted: Submitted, count: int) -> SchedulerError:
    """The refusal, with what is sent already."""
    sent = submitted.sent_now
    if not sent:
        return error
    return SchedulerError(f"{error}\n{sent} of {count} points are sent now; the same command goes on with the rest")


def unsent(ready: Sequence[Ready]) -> list[Ready]:
    """The points that were never sent.

    Raises:
        SchedulerError: Slurm could not be asked.
    """
    live = asked_jobs(one.swept.folder for one in ready)
    return [one for one in ready if phase_of(one.swept.folder, live) is Phase.new]


def add_points(folder: SweepFolder, sweep: Sweep) -> None:
    """Add the points that a sweep of the same id does not have yet, as after a change of the runs' name."""
    before = read(folder)
    known = {point.run_id for point in before.points}
    new = [point for point in sweep.points if point.run_id not in known]
    if new or before.sweep != sweep.sweep:
        write_sweep(folder, replace(before, points=[*before.points, *new], sweep=sweep.sweep))
