"""Slurm's commands as functions: the one place that submits, asks, signals and cancels."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm import limits, parse, policy
from slurm.access import Access, read_access
from slurm.commands import Answer, SlurmError, SlurmMissingError, pauses, run_once, run_patiently
from slurm.limits import Limits
from slurm.parse import Account, Estimate, Job, Partition
from slurm.policy import Policy, preempts_by_qos, read_policy
from slurm.queue_cache import QueueCache
from slurm.refusals import culprit

__all__ = [
    "Account",
    "Client",
    "Estimate",
    "Job",
    "Limits",
    "Partition",
    "Room",
    "SlurmError",
    "SlurmMissingError",
    "culprit",
]

PATIENCE_S = 60.0
REGISTER_S = 30.0
"""How long a controller that came back is given until its nodes have registered."""
LIMITS_TIMEOUT_S = 10.0
"""The accounting database may be slow or away; nothing waits for it longer than that."""


@dataclass(frozen=True)
class Room:
    """`limit` jobs may wait or run with an account and a QOS, and `used` do."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


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
        self._configuration = ""
        self._cache = QueueCache(slurm_conf, squeue_age_s)

    def submit(
        self,
        script: Path,
        known: Collection[str] = (),
        arguments: Iterable[str] = (),
        words: Iterable[str] = (),
        elements: Sequence[int] = (),
    ) -> str:
        """Send a script; its job id. `arguments` are sbatch's, `words` the script's own.

        With `elements`, the indices that `arguments` give to `--array`, the answer is the array's id; the element with
        index 4 of array 123 is the job 123_4.

        Where the controller goes away in between, the job may or may not exist: before each new try the queue is
        searched for a job with this script that is not in `known` (the ids of its earlier submissions), so that there
        is exactly one in the end.

        Raises:
            SlurmError: refused, in sbatch's words, or the controller stayed away.
        """
        argv = ["sbatch", "--parsable", *arguments, str(script), *words]
        job_id = self._send(argv, script, known)
        self.remember(job_id, script, elements)
        return job_id

    def remember(self, job_id: str, script: Path, elements: Sequence[int] = ()) -> None:
        """Count a job as waiting until Slurm is asked the next time."""
        ids = [f"{job_id}_{index}" for index in elements] or [job_id]
        self._cache.add([Job(id=new, command=str(script)) for new in ids])

    def _send(self, argv: list[str], script: Path, known: Collection[str]) -> str:
        deadline = time.monotonic() + self._patience_s
        for pause in pauses():
            try:
                answer = run_once(argv, self._conf)
                break
            except SlurmError as error:
                if not error.away or time.monotonic() + pause > deadline:
                    raise
                # Looked for twice: what was on its way when the controller stood still becomes a job a moment after.
                for _ in range(2):
                    time.sleep(pause)
                    found = self.find(script, known)
                    if found is not None:
                        return found
        job_id = parse.submitted_id(answer.stdout)
        if job_id is None:
            raise SlurmError(argv, f"sbatch answered {answer.stdout!r}, which names no job")
        return job_id

    def test_only(self, script: Path, arguments: Iterable[str] = ()) -> Estimate | None:
        """When and where the script would start; None where Slurm accepts it without an estimate.

        A controller that has just come back refuses everything here, though it would take the job, until its nodes
        have registered: it is asked again meanwhile.

        Raises:
            SlurmError: it would be refused.
        """
        deadline = time.monotonic() + REGISTER_S
        for pause in pauses():
            try:
                answer = self._ask(["sbatch", "--test-only", *arguments, str(script)])
                return parse.estimate(answer.stderr) or parse.estimate(answer.stdout)
            except SlurmError as error:
                if error.away or time.monotonic() + pause > deadline or not self._waits_for_nodes():
                    raise
            time.sleep(pause)
        raise AssertionError("the pauses do not end")

    def _waits_for_nodes(self) -> bool:
        """Whether there are nodes that have not registered since the controller started."""
        with contextlib.suppress(SlurmError):
            return "unknown" in run_once(["sinfo", "--noheader", "--format=%T"], self._conf).stdout
        return False

    def jobs(self, ids: Collection[str] | None = None) -> list[Job]:
        """The person's jobs that Slurm still has, those of `ids` where given; from an answer at most 30 s old.

        Each element of an array is a job of its own, also while it waits.
        """
        return [job for job in self._cache.jobs(self._queue) if ids is None or job.id in ids]

    def jobs_of_others(self, ids: Collection[str]) -> list[Job]:
        """Those of `ids` that Slurm still has, whoever sent them; asked now."""
        if not ids:
            return []
        whose = [f"--jobs={','.join(sorted(ids))}"]
        return [job for job in self._queue(whose, mine=False) if job.id in ids]

    def find(self, script: Path, known: Collection[str] = (), ended: bool = False) -> str | None:
        """The id under which the person has submitted a script, where it is not in `known`; asked now.

        With `ended`, also of jobs that ended some minutes ago (MinJobAge).
        """
        jobs = self._queue(["--states=all"] if ended else [])
        found = (job for job in jobs if job.command == str(script) or job.command.startswith(f"{script} "))
        return next((job.submission for job in found if job.submission not in known), None)

    def cancel(self, *job_ids: str) -> None:
        """scancel: Slurm ends the jobs; it is no error where they have ended already."""
        self._ask(["scancel", *job_ids], ended="Invalid job id")
        self._cache.drop(job_ids)

    def signal(self, job_id: str, name: str, batch: bool = True) -> None:
        """Send a signal to the batch shell (`batch`) or to the job's steps; no error where it has ended already."""
        where = ["--batch"] if batch else []
        self._ask(["scancel", *where, f"--signal={name}", job_id], ended="Invalid job id")

    def requeue(self, job_id: str) -> None:
        """Put a job back into the queue."""
        self._ask(["scontrol", "requeue", job_id])

    def accounting(self, ids: Collection[str]) -> list[Account]:
        """What the accounting database knows of jobs; nothing where there is none."""
        if not ids:
            return []
        argv = ["sacct", "-n", "-P", "-X", "-j", ",".join(sorted(ids)), "-o", ",".join(parse.ACCOUNT_FIELDS)]
        try:
            return parse.accounts(run_once(argv, self._conf).stdout)
        except SlurmError:
            return []

    def limits(self) -> Limits | None:
        """What the accounting database allows this person; None where there is none, or it does not answer."""
        user = pwd.getpwuid(os.getuid()).pw_name
        questions = (
            (["associations", f"user={user}", *self._of_this_cluster()], limits.ASSOCIATION_FIELDS),
            (["qos"], limits.QOS_FIELDS),
            (["user", user], limits.USER_FIELDS),
        )
        try:
            return limits.limits(*(self._ask_database(words, fields) for words, fields in questions))
        except SlurmError:
            return None

    def room(self, account: str | None, qos: str | None, partition: str | None = None) -> Room | None:
        """How many more jobs an account and a QOS take now in a partition (None: the default one).

        None where nothing limits them, or nobody knows.
        """
        known = self.limits()
        if known is None:
            return None
        if partition is None:
            partition = next((one.name for one in self.partitions() if one.default), None)
        most = known.submit_limit(account, qos, partition)
        if most is None:
            return None
        used = account or known.default_account
        there = sum(1 for job in self._queue() if job.account == used and (qos is None or job.qos == qos))
        return Room(most, there)

    def partitions(self) -> list[Partition]:
        """The partitions with their limits."""
        answer = self._ask(["sinfo", "--noheader", f"--format={parse.SEPARATOR.join(parse.PARTITION_FIELDS)}"])
        return parse.partitions(answer.stdout)

    def node_names(self, partition: str | None = None) -> list[str]:
        """The nodes of a partition (or of several, with commas), or of the cluster."""
        chosen = [f"--partition={partition}"] if partition else []
        return parse.node_names(self._ask(["sinfo", "--noheader", "--Node", "--format=%N", *chosen]).stdout)

    def version(self) -> str:
        """Slurm's version, such as `22.05.8`."""
        return run_once(["sbatch", "--version"], self._conf).stdout.split()[-1]

    def max_array_size(self) -> int | None:
        """One more than the largest index of a job array."""
        (value,) = self.settings("MaxArraySize")
        return int(value) if value and value.isdigit() else None

    def settings(self, *names: str) -> list[str | None]:
        """Values of the cluster's configuration, such as MaxArraySize; None for what is not set."""
        return [parse.setting(self._config(), name) for name in names]

    def policy(self, qos: str | None = None) -> Policy:
        """What the site does to jobs, of a QOS where that decides: requeue, preemption, grace."""
        levels = ""
        if preempts_by_qos(self._config()):
            with contextlib.suppress(SlurmError):
                levels = self._ask_database(["qos"], policy.QOS_FIELDS)
        return read_policy(self._config(), self._rules(), levels, qos)

    def access(self) -> dict[str, Access]:
        """Who may use each partition."""
        return read_access(self._rules())

    def _rules(self) -> str:
        return self._ask(["scontrol", "-o", "show", "partition"]).stdout

    def _config(self) -> str:
        """Slurm's configuration, asked once."""
        if not self._configuration:
            self._configuration = self._ask(["scontrol", "show", "config"]).stdout
        return self._configuration

    def _of_this_cluster(self) -> list[str]:
        """sacctmgr's word for this cluster alone, since several may share a database; nothing where it is not known."""
        with contextlib.suppress(SlurmError):
            (name,) = self.settings("ClusterName")
            return [f"cluster={name}"] if name else []
        return []

    def _ask_database(self, words: Sequence[str], fields: Sequence[str]) -> str:
        argv = ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", *words, f"format={','.join(fields)}"]
        return run_once(argv, self._conf, LIMITS_TIMEOUT_S).stdout

    def _queue(self, more: Sequence[str] = (), mine: bool = True) -> list[Job]:
        fields = f"--format={parse.SEPARATOR.join(parse.QUEUE_FIELDS)}"
        whose = ["--me"] if mine else []
        return parse.queue(
            self._ask(["squeue", "--noheader", *whose, "--array", fields, *more], ended="Invalid job id").stdout
        )

    def _ask(self, argv: list[str], ended: str | None = None) -> Answer:
        try:
            return run_patiently(argv, self._conf, self._patience_s)
        except SlurmError as error:
            if ended is not None and ended in error.stderr:
                return Answer("", error.stderr)
            raise
