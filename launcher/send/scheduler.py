"""Asking Slurm about the jobs of runs: one question for all of them, none where no run was ever submitted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from conf.layout import RunFolder
from conf.record import Plan, read_plan
from launcher.runs.submissions import read_submissions
from slurm.client import Client, SlurmError
from slurm.parse import Job

PATIENCE_S = 15.0
"""How long a controller that is away is asked how runs stand: their files tell most of it."""


def client_of(plan: Plan) -> Client:
    """Slurm's commands as this run uses them (`cluster.slurm_conf`)."""
    return Client(plan.config.cluster.slurm_conf)


def live_jobs(
    folders: Iterable[RunFolder], plan_of: Callable[[RunFolder], Plan] = lambda folder: read_plan(folder.run_json)
) -> dict[str, Job] | None:
    """The jobs of these runs that Slurm still has, by id; None where one of its clusters could not be asked.

    `plan_of` is a watcher's, who knows the plans already.
    """
    wanted: dict[tuple[str | None, bool], set[str]] = {}
    for folder in folders:
        ids = {sent.job_id for sent in read_submissions(folder)}
        if ids:
            try:
                slurm_conf = plan_of(folder).config.cluster.slurm_conf
                mine = folder.path.stat().st_uid == os.getuid()
            except (FileNotFoundError, ValueError):
                continue
            wanted.setdefault((slurm_conf, mine), set()).update(ids)
    found: dict[str, Job] = {}
    for (slurm_conf, mine), ids in wanted.items():
        client = Client(slurm_conf, patience_s=PATIENCE_S)
        try:
            jobs = client.jobs(ids) if mine else client.jobs_of_others(ids)
        except SlurmError:
            return None
        found.update({job.id: job for job in jobs})
    return found
