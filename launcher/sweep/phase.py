"""How far a point of a sweep has come, as far as sending it is concerned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from launcher.problems import SchedulerError
from launcher.runs.read import list_attempts
from launcher.runs.standing import find_local, live_submissions, training_attempts
from launcher.runs.submissions import TRAIN, read_submissions
from launcher.send.scheduler import live_jobs
from slurm.parse import Job


class Phase(Enum):
    """`new` was never sent; `live` waits or runs; `ended` neither and is not done either."""

    new = "new"
    live = "live"
    ended = "ended"
    done = "done"


def phase_of(folder: RunFolder, jobs: Mapping[str, Job]) -> Phase:
    """How far a run has come; `jobs` are those that Slurm still has. A job that only prepares data does not count."""
    if not folder.run_json.is_file():
        return Phase.new
    outcome = read_outcome(folder.outcome)
    if any(sent.purpose == TRAIN for sent in live_submissions(folder, jobs)):
        return Phase.live
    if outcome is not None and outcome.state is State.done:
        return Phase.done
    if list_attempts(folder) and find_local(folder) is not None:
        return Phase.live
    started = outcome is not None or any(sent.purpose == TRAIN for sent in read_submissions(folder))
    return Phase.ended if started or training_attempts(folder) else Phase.new


def asked_jobs(folders: Iterable[RunFolder]) -> dict[str, Job]:
    """The jobs of these runs that Slurm still has.

    Raises:
        SchedulerError: it could not be asked, so that nobody knows what runs already.
    """
    jobs = live_jobs(folder for folder in folders if folder.run_json.is_file())
    if jobs is None:
        raise SchedulerError("Slurm could not be asked what of the sweep runs already; nothing was sent")
    return jobs
