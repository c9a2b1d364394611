"""Sending a run to Slurm: asks first, notes each step in `submissions.jsonl`, sends nothing twice."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from conf.layout import RunFolder
from conf.record import Plan
from launcher.facts.slurm import DEVCLUSTER
from launcher.problems import SchedulerError
from launcher.render.job import exports_after, exports_last
from launcher.runs.rundir import require_safe
from launcher.runs.submissions import EXPORT, PREPARE, TRAIN, read_submissions, unanswered, write_line
from launcher.send.refusal import refused
from launcher.send.scheduler import client_of
from slurm.client import SlurmError


def ask_first(plan: Plan, artifacts: Mapping[str, bytes], script: str = "job.sbatch") -> str:
    """Ask sbatch whether it would take the script; when it would start, in words, or nothing.

    Raises:
        SchedulerError: it would not; Slurm's words, and the key they are about.
    """
    if plan.config.cluster.slurm_conf == DEVCLUSTER:
        raise SchedulerError("no devcluster runs on this machine; start one: muster devcluster up")
    with tempfile.TemporaryDirectory(prefix="muster-") as folder:
        path = Path(folder) / script
        path.write_bytes(artifacts[script])
        try:
            estimate = client_of(plan).test_only(path)
        except SlurmError as error:
            raise refused(error, plan) from error
    return f", would start at {estimate.start} on {estimate.nodes}" if estimate else ""


def send(folder: RunFolder, plan: Plan, purpose: str = TRAIN, after: str = "", words: Sequence[str] = ()) -> str:
    """Send the run's script for one purpose; its job id.

    `after` is what it waits for, as sbatch's --dependency says it; `words` are handed to the script.

    An earlier `sending` that nobody answered may have become a job: Slurm is asked for it before anything is sent.

    Raises:
        SchedulerError: Slurm refused or could not be reached.
        MusterError: others could have written the folder, whose files would run as this person.
    """
    require_safe(folder)
    path = script_of(folder, purpose).absolute()
    client = client_of(plan)
    known = {sent.job_id.partition("_")[0] for sent in read_submissions(folder)}
    try:
        if unanswered(folder, purpose) is not None:
            found = client.find(path, known)
            if found is not None:
                write_line(folder, "sent", purpose, job_id=found, found=True)
                return found
        write_line(folder, "sending", purpose)
        job_id = client.submit(path, known, dependency(after), words)
    except SlurmError as error:
        if not error.away:  # else nobody knows whether there is a job now
            write_line(folder, "refused", purpose, error=str(error))
        raise refused(error, plan) from error
    write_line(folder, "sent", purpose, job_id=job_id)
    return job_id


def settle(folder: RunFolder, plan: Plan, purpose: str) -> str | None:
    """The job that a submission which nobody answered has become, also where it has ended since; it is noted.

    Raises:
        SlurmError: Slurm could not be asked.
    """
    if unanswered(folder, purpose) is None:
        return None
    known = {sent.job_id.partition("_")[0] for sent in read_submissions(folder)}
    client, script = client_of(plan), script_of(folder, purpose).absolute()
    found = client.find(script, known, ended=True)
    if found is not None:
        write_line(folder, "sent", purpose, job_id=found, found=True)
        client.remember(found, script)
    return found


def dependency(after: str) -> list[str]:
    """sbatch's arguments for a job that waits (`afterok:12`), and that goes where it would wait for ever."""
    return [f"--dependency={after}", "--kill-on-invalid-dep=yes"] if after else []


def send_all(folder: RunFolder, plan: Plan, after: str = "") -> str:
    """Send the run with the jobs around it: the data step before, the export after; the id of the ranks' job.

    `after` is what the first of them waits for.

    Raises:
        SchedulerError: Slurm refused or could not be reached.
    """
    if folder.job.prepare_sbatch.exists() and not folder.data_json.exists():
        after = f"afterok:{send(folder, plan, PREPARE, after=after)}"
    job_id = send(folder, plan, TRAIN, after=after)
    if exports_after(plan) and not exports_last(plan):
        send(folder, plan, EXPORT, after=f"afterok:{job_id}")
    return job_id


def script_of(folder: RunFolder, purpose: str) -> Path:
    """The script that sbatch gets for a purpose."""
    scripts = {TRAIN: folder.job_sbatch, PREPARE: folder.job.prepare_sbatch, EXPORT: folder.job.export_sbatch}
    return scripts[purpose]
