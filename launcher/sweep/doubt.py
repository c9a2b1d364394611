"""Submissions of a sweep that nobody answered: whether they became jobs, by Slurm and by the run folders.

The command may have died between an sbatch and the line that says what came of it, or the controller in between.
"""

from __future__ import annotations

from pathlib import Path

from conf.layout import RunFolder
from conf.record import Plan, read_plan
from launcher.runs.read import list_attempts, read_job
from launcher.runs.submissions import read_submissions, write_line
from launcher.send import submit
from launcher.send.scheduler import client_of
from launcher.sweep.folder import SweepFolder
from launcher.sweep.ledger import REFUSED, SENDING, SENT, Entry, Ledger

CLOCKS_APART_S = 60.0


def settle(folder: SweepFolder) -> None:
    """Note in the ledger what became of each submission, and in the folders of the runs which job is theirs.

    Raises:
        SlurmError: Slurm could not be asked.
    """
    ledger = Ledger(folder)
    for entry in ledger.entries():
        if entry.event == SENDING and entry.array is None:
            _settle_own(ledger, entry, RunFolder(folder.path.parents[1] / entry.run))
    for entry in ledger.arrays(SENDING):
        _settle_array(folder, ledger, entry)
    for entry in ledger.arrays(SENT):
        note(folder, entry)


def runs_of(folder: SweepFolder, entry: Entry) -> list[RunFolder]:
    """The runs of an array, element by element."""
    assert entry.array is not None
    return [RunFolder(Path(line)) for line in folder.points(entry.array).read_text().splitlines()]


def note(folder: SweepFolder, entry: Entry) -> None:
    """Write the elements of an array that was sent into the folders of their runs, where they are missing."""
    runs = runs_of(folder, entry)
    for index in entry.indices:
        job_id = f"{entry.job_id}_{index}"
        if all(sent.job_id != job_id for sent in read_submissions(runs[index])):
            write_line(runs[index], "sent", entry.purpose, job_id=job_id, sweep=folder.path.name)


def _settle_own(ledger: Ledger, entry: Entry, run: RunFolder) -> None:
    if not run.run_json.is_file():
        return
    found = submit.settle(run, read_plan(run.run_json), entry.purpose)
    if found is None:
        since = entry.time - 1.0  # both lines are of one clock, rounded
        later = [s.job_id for s in read_submissions(run) if s.purpose == entry.purpose and s.time >= since]
        found = later[-1] if later else None
    values = {"run": entry.run, "data": entry.data}
    if found is None:
        ledger.write(REFUSED, entry.purpose, **values, error="it broke off before Slurm had it")
    else:
        ledger.write(SENT, entry.purpose, **values, job_id=found)


def _settle_array(folder: SweepFolder, ledger: Ledger, entry: Entry) -> None:
    runs = runs_of(folder, entry)
    plan: Plan = read_plan(runs[0].run_json)
    client, script = client_of(plan), folder.script(entry.array or 0, entry.suffix)
    found = client.find(script, ledger.job_ids(), ended=True) or _seen(runs, entry)
    if found is None:
        ledger.write(REFUSED, entry.purpose, array=entry.array, error="it broke off before Slurm had it")
        return
    ledger.write(SENT, entry.purpose, array=entry.array, job_id=found)
    client.remember(found, script, entry.indices)


def _seen(runs: list[RunFolder], entry: Entry) -> str | None:
    """The array whose elements have started in the runs since it was tried to send it."""
    for index in entry.indices:
        known = {sent.job_id for sent in read_submissions(runs[index])}
        for attempt in list_attempts(runs[index]):
            job = read_job(attempt)
            array, _, element = str(job.get("job_id", "")).partition("_")
            recent = float(job.get("time", 0.0)) >= entry.time - CLOCKS_APART_S
            if element == str(index) and recent and f"{array}_{element}" not in known:
                return array
    return None
