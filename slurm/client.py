"""Slurm's commands as functions: the one place that submits, asks, signals and cancels."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from pathlib import Path

from slurm import parse
from slurm.commands import Answer, SlurmError, SlurmMissingError, pauses, run_once, run_patiently
from slurm.parse import Account, Estimate, Job, Partition
from slurm.queue_cache import QueueCache
from slurm.refusals import culprit

__all__ = ["Account", "Client", "Estimate", "Job", "Partition", "SlurmError", "SlurmMissingError", "culprit"]

PATIENCE_S = 60.0


class Client:
    """One cluster's commands. `slurm_conf` None: the machine's own cluster.

    `patience_s` is how long a question is repeated while the controller is away; `squeue_age_s` how old an answer of
    squeue may be (default 30).
    """

    def __init__(
        self, slurm_conf: str | None = None, *, patience_s: float = PATIENCE_S, squeue_age_s: float | None = None
    ) -> None:
        self._conf = slurm_conf
        self._patience_s = patience_s
        self._cache = QueueCache(slurm_conf, squeue_age_s)

    def submit(
        self, script: Path, known: Collection[int] = (), arguments: Iterable[str] = (), words: Iterable[str] = ()
    ) -> int:
        """Send a script; its job id. `arguments` are sbatch's, `words` the script's own.

        Where the controller goes away in between, the job may or may not exist: before each new try the queue is
        searched for a job with this script that is not in `known` (the ids of its earlier jobs), so that there is
        exactly one in the end.

        Raises:
            SlurmError: refused, in sbatch's words, or the controller stayed away.
        """
        argv = ["sbatch", "--parsable", *arguments, str(script), *words]
        deadline = time.monotonic() + self._patience_s
        for pause in pauses():
            try:
                answer = run_once(argv, self._conf)
                break
            except SlurmError as error:
                if not error.away or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                found = [job.id for job in self.find(script) if job.id not in known]
                if found:
                    self._cache.add(Job(id=found[0], command=str(script)))
                    return found[0]
        number = parse.submitted_id(answer.stdout)
        if number is None:
            raise SlurmError(argv, f"sbatch answered {answer.stdout!r}, which names no job")
        self._cache.add(Job(id=number, command=str(script)))
        return number

    def test_only(self, script: Path, arguments: Iterable[str] = ()) -> Estimate | None:
        """When and where the script would start; None where Slurm accepts it without an estimate.

        Raises:
            SlurmError: it would be refused.
        """
        answer = self._ask(["sbatch", "--test-only", *arguments, str(script)])
        return parse.estimate(answer.stderr) or parse.estimate(answer.stdout)

    def jobs(self, ids: Collection[int] | None = None) -> list[Job]:
        """The person's jobs that Slurm still has, those of `ids` where given; from an answer at most 30 s old."""
        return [job for job in self._cache.jobs(self._queue) if ids is None or job.id in ids]

    def find(self, script: Path) -> list[Job]:
        """The person's jobs that Slurm has for a script, asked now."""
        return [job for job in self._queue() if job.command == str(script) or job.command.startswith(f"{script} ")]

    def cancel(self, job_id: int) -> None:
        """scancel: Slurm ends the job; it is no error where it has ended already."""
        self._ask(["scancel", str(job_id)], ended="Invalid job id")
        self._cache.drop(job_id)

    def signal(self, job_id: int, name: str, batch: bool = True) -> None:
        """Send a signal to the batch shell (`batch`) or to the job's steps; no error where it has ended already."""
        where = ["--batch"] if batch else []
        self._ask(["scancel", *where, f"--signal={name}", str(job_id)], ended="Invalid job id")

    def requeue(self, job_id: int | str) -> None:
        """Put a job back into the queue (`123`, or `123_4` for an element of an array)."""
        self._ask(["scontrol", "requeue", str(job_id)])

    def accounting(self, ids: Collection[int]) -> list[Account]:
        """What the accounting database knows of jobs; nothing where there is none."""
        if not ids:
            return []
        listed = ",".join(str(number) for number in sorted(ids))
        argv = ["sacct", "-n", "-P", "-X", "-j", listed, "-o", ",".join(parse.ACCOUNT_FIELDS)]
        try:
            return parse.accounts(run_once(argv, self._conf).stdout)
        except SlurmError:
            return []

    def partitions(self) -> list[Partition]:
        """The partitions with their limits."""
        answer = self._ask(["sinfo", "--noheader", f"--format={parse.SEPARATOR.join(parse.PARTITION_FIELDS)}"])
        return parse.partitions(answer.stdout)

    def version(self) -> str:
        """Slurm's version, such as `22.05.8`."""
        return run_once(["sbatch", "--version"], self._conf).stdout.split()[-1]

    def max_array_size(self) -> int | None:
        """One more than the largest index of a job array."""
        value = parse.setting(self._ask(["scontrol", "show", "config"]).stdout, "MaxArraySize")
        return int(value) if value and value.isdigit() else None

    def _queue(self) -> list[Job]:
        answer = self._ask(["squeue", "--noheader", "--me", f"--format={parse.SEPARATOR.join(parse.QUEUE_FIELDS)}"])
        return parse.queue(answer.stdout)

    def _ask(self, argv: list[str], ended: str | None = None) -> Answer:
        try:
            return run_patiently(argv, self._conf, self._patience_s)
        except SlurmError as error:
            if ended is not None and ended in error.stderr:
                return Answer("", error.stderr)
            raise
