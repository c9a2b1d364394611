"""The small Slurm job that is the controller of a search: its script, sending it, and its own requeue."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from conf.record import Plan
from launcher.facts.machine import PASSED
from launcher.send.refusal import refused
from launcher.send.scheduler import client_of
from launcher.sweep.control import patiently_locked
from launcher.sweep.folder import SweepFolder
from launcher.sweep.ledger import REFUSED, SENDING, SENT, Ledger
from slurm import options
from slurm.client import SlurmError
from slurm.step import checked_lines

PURPOSE = "controller"
MUSTER = Path(__file__).resolve().parents[2] / "muster.py"
OWN = ("MUSTER_SITE", "XDG_CONFIG_HOME", "SLURM_CONF")
"""Variables that say where a person's own files are; the controller composes with them as the shell did."""

LEAD_S = 120
SCRUB = """\
job=$SLURM_JOB_ID conf=${SLURM_CONF-}
for name in ${!SLURM@} ${!SBATCH_@} ${!SRUN_@}; do unset "$name"; done
if [ -n "$conf" ]; then export SLURM_CONF=$conf; fi"""
"""The controller's own job is not what the jobs that it sends are about."""


def controller_script(folder: SweepFolder, plan: Plan) -> str:
    """`controller.sbatch`.

    Raises:
        slurm.options.OptionError: an option of `sweep.controller` cannot be written.
    """
    cluster = plan.config.cluster
    chosen = options.batch_options(
        job_name=f"{folder.path.name}-controller",
        output=f"{options.literal_path(str(folder.logs))}/controller-%j.log",
        nodes=1,
        chdir=str(folder.path),
        signal_lead_s=LEAD_S,
        export=[*options.BASIC_VARIABLES, *(name for name in (*OWN, *PASSED) if name in os.environ)],
        resources={"account": cluster.account, "partition": cluster.partition, "qos": cluster.qos, "cpus-per-task": 1},
        extra=plan.config.sweep.controller,
    )
    start = f'exec {shlex.join([sys.executable, str(MUSTER), "sweep", "control", str(folder.path)])} --job "$job"'
    lines = ["#!/bin/bash", *options.render(chosen), "", *SCRUB.splitlines(), start]
    return "".join(f"{line}\n" for line in checked_lines(lines))


def send_controller(folder: SweepFolder, plan: Plan) -> tuple[str, bool]:
    """Send the controller where none waits or runs; its job id, and whether it was there already.

    Raises:
        SchedulerError: Slurm refused or could not be reached.
    """
    client, ledger = client_of(plan), Ledger(folder)
    with patiently_locked(folder):
        script = folder.controller_script
        known = [entry for entry in ledger.entries() if entry.purpose == PURPOSE]
        try:
            alive = client.find(script)
            if alive is not None:
                if not any(entry.job_id == alive for entry in known):
                    ledger.write(SENT, PURPOSE, job_id=alive, found=True)
                return alive, True
            folder.write(script, controller_script(folder, plan).encode())
            ledger.write(SENDING, PURPOSE)
            job_id = client.submit(script, ledger.job_ids())
        except SlurmError as error:
            ledger.write(REFUSED, PURPOSE, error=str(error))
            raise refused(error, plan) from error
        ledger.write(SENT, PURPOSE, job_id=job_id)
        return job_id, False


def ask_for_controller(folder: SweepFolder, plan: Plan) -> None:
    """Ask sbatch whether it would take the controller.

    Raises:
        SchedulerError: it would not.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="muster-") as scratch:
        script = Path(scratch) / folder.controller_script.name
        script.write_text(controller_script(folder, plan))
        try:
            client_of(plan).test_only(script)
        except SlurmError as error:
            raise refused(error, plan) from error


def cancel_controller(folder: SweepFolder, plan: Plan) -> list[str]:
    """End the controller where it waits or runs; what happened, in words.

    Raises:
        SlurmError: Slurm could not be asked.
    """
    client = client_of(plan)
    job = client.find(folder.controller_script)
    if job is None:
        return []
    client.cancel(job)
    return [f"controller job {job} is cancelled"]
