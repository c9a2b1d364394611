"""What Slurm knows of the jobs of a run: the queue while they wait or run, the accounting database afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conf.layout import RunFolder
from conf.record import Plan
from launcher.runs.submissions import read_submissions
from launcher.send.scheduler import client_of
from slurm import states
from slurm.client import SlurmError
from slurm.parse import Account, Job


@dataclass(frozen=True)
class Witness:
    """What Slurm says. `asked` is false where it was never sent there, or could not be asked.

    `accounts` are those of jobs that have ended. A requeued job has one, of its last turn.
    """

    asked: bool
    jobs: Mapping[str, Job]
    accounts: Mapping[str, Account]

    def words_on(self, job: str) -> str:
        """What became of a job (`slurm:123`), in a line; empty where nothing is known."""
        account = self.accounts.get(job.partition(":")[2])
        if account is None:
            return ""
        code = "" if account.exit_code in ("", "0:0") else f", exit code {account.exit_code}"
        return (
            f"{states.base(account.state)}: {account.explanation}{code}, after {account.elapsed} on {account.node_list}"
        )

    def state_of(self, job: str) -> str:
        """The final state of a job by the accounting database; empty where it is not known."""
        account = self.accounts.get(job.partition(":")[2])
        return states.base(account.state) if account is not None else ""


def ask(folder: RunFolder, plan: Plan, jobs: Mapping[str, Job] | None) -> Witness:
    """Ask about every job of the run; `jobs` is what the queue has of them, None where it could not be asked."""
    ids = {sent.job_id for sent in read_submissions(folder)}
    if not ids or jobs is None:
        return Witness(False, jobs or {}, {})
    try:
        accounts = client_of(plan).accounting(ids)
    except SlurmError:
        accounts = []
    ended = {account.id: account for account in accounts if states.is_final(account.state)}
    return Witness(True, {job_id: job for job_id, job in jobs.items() if job_id in ids}, ended)
