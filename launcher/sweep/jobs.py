"""The jobs of a sweep: the data step before, arrays, single runs, exports after. Each is noted before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import SweepConfig
from launcher.problems import SchedulerError
from launcher.render.job import exports_after, exports_last
from launcher.runs.submissions import EXPORT, PREPARE, TRAIN
from launcher.send.refusal import refused
from launcher.send.submit import dependency, send
from launcher.sweep.arrays import Batch, Member, array_points, array_script, batches
from launcher.sweep.doubt import note
from launcher.sweep.folder import SweepFolder
from launcher.sweep.ledger import REFUSED, SENDING, SENT, Entry, Ledger, ranges
from launcher.sweep.preparation import data_key, prepares, write_prepare_script
from slurm.client import Client, Room, SlurmError
from slurm.parse import Job


@dataclass(frozen=True)
class Sending:
    """One batch that was sent: its points, the id that sbatch answered, the array's number (None: one run's job)."""

    members: tuple[Member, ...]
    job_id: str
    array: int | None = None


@dataclass
class Jobs:
    """The jobs of one sweep. `live` are those that Slurm has; the sweep's lock is held by the caller.

    `calls` counts the sbatch commands of this process.
    """

    folder: SweepFolder
    config: SweepConfig
    live: Mapping[str, Job]
    calls: int = 0
    sent: list[Sending] = field(default_factory=list)
    clients: dict[str | None, Client] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)

    def send(self, members: Sequence[Member]) -> None:
        """Send the points, those that ask for the same as arrays; with `max_parallel` one array after the other.

        Raises:
            SchedulerError: Slurm refused or could not be reached; what was sent before stays.
        """
        if not members:
            return
        before = self._prepare(members)
        fitting = self._fitting(members)
        found = batches(fitting, self._limit(members[0].plan))
        follows = self.config.max_parallel is not None and (len(found) > 1 or bool(self._live_array()))
        for batch in found:
            keys = {data_key(member.plan) for member in batch.members}
            ids = sorted({before[key] for key in keys if key in before})
            last = self._live_array() if follows else ""
            after = [*([f"afterok:{':'.join(ids)}"] if ids else []), *([f"afterany:{last}"] if last else [])]
            send_batch = self._send_array if batch.is_array else self._send_alone
            self.sent.append(send_batch(batch, ",".join(after)))
        if len(fitting) < len(members):
            raise SchedulerError(self._full(members[0].plan))

    def _fitting(self, members: Sequence[Member]) -> Sequence[Member]:
        """As many members as the account and the QOS take now: of an array that is too long, Slurm takes nothing."""
        plan = members[0].plan
        room = self._room(plan)
        if room is None:
            return members
        return members[: room.free // (2 if exports_after(plan) and not exports_last(plan) else 1)]

    def _full(self, plan: Plan) -> str:
        room, account = self._room(plan), plan.config.cluster.account
        where = f"cluster.account={account}" if account else "your account"
        counts = f"{room.used} of the {room.limit} jobs that it takes at a time" if room else "as many jobs as it takes"
        return f"{where} has {counts}; there is room again as jobs end"

    def _room(self, plan: Plan) -> Room | None:
        cluster = plan.config.cluster
        return self._client(plan).room(cluster.account, cluster.qos, cluster.partition)

    def _prepare(self, members: Sequence[Member]) -> dict[str, str]:
        """The jobs that prepare the data of the members, by what they prepare; none where that is prepared."""
        alike: dict[str, list[Member]] = {}
        for member in members:
            alike.setdefault(data_key(member.plan), []).append(member)
        known = {entry.data: entry for entry in self.ledger.entries() if entry.purpose == PREPARE}
        jobs = {}
        for key, sharing in alike.items():
            first, entry = sharing[0], known.get(key)
            if any(member.folder.data_json.exists() for member in sharing):
                continue
            if entry is not None and entry.job_id in self.live:
                jobs[key] = entry.job_id
            elif entry is not None and entry.run and _of(first, entry.run).data_json.exists():
                continue
            elif prepares(sharing):
                write_prepare_script(first.folder, first.plan)
                jobs[key] = self._send_own(first, PREPARE, "", data=key)
        return jobs

    def _send_alone(self, batch: Batch, after: str) -> Sending:
        (member,) = batch.members
        member.folder.stop.unlink(missing_ok=True)
        job_id = self._send_own(member, TRAIN, after)
        if exports_after(member.plan) and not exports_last(member.plan):
            self._send_own(member, EXPORT, f"afterok:{job_id}")
        return Sending(batch.members, job_id)

    def _send_own(self, member: Member, purpose: str, after: str, **values: str) -> str:
        """One run's own job, noted in the ledger as well."""
        self.ledger.write(SENDING, purpose, run=member.point.run_id, **values)
        self.calls += 1
        job_id = send(member.folder, member.plan, purpose, after)
        self.ledger.write(SENT, purpose, run=member.point.run_id, job_id=job_id, **values)
        return job_id

    def _send_array(self, batch: Batch, after: str) -> Sending:
        number = self._next_number()
        self.folder.write(self.folder.points(number), array_points(batch).encode())
        for member in batch.members:
            member.folder.stop.unlink(missing_ok=True)
        at_a_time = f"%{self.config.max_parallel}" if self.config.max_parallel else ""
        job_id = self._send_script(batch, number, TRAIN, at_a_time, after)
        if exports_after(batch.plan) and not exports_last(batch.plan):
            self._send_script(batch, number, EXPORT, "", f"aftercorr:{job_id}")
        return Sending(batch.members, job_id, number)

    def _send_script(self, batch: Batch, number: int, purpose: str, at_a_time: str, after: str) -> str:
        entry = Entry(SENDING, purpose, array=number, indices=list(range(len(batch.members))))
        script = self.folder.script(number, entry.suffix)
        text = array_script(self.folder, number, batch, "" if purpose == TRAIN else purpose)
        self.folder.write(script, text.encode())
        self._write(SENDING, entry, indices=entry.indices)
        arguments = [f"--array={ranges(entry.indices)}{at_a_time}", *dependency(after)]
        self.calls += 1
        try:
            job_id = self._client(batch.plan).submit(script, self.ledger.job_ids(), arguments, elements=entry.indices)
        except SlurmError as error:
            if not error.away:
                self._write(REFUSED, entry, error=str(error))
            raise refused(error, batch.plan) from error
        self._write(SENT, entry, job_id=job_id)
        note(self.folder, replace(entry, job_id=job_id))
        return job_id

    def _write(self, event: str, entry: Entry, **values: object) -> None:
        self.ledger.write(event, entry.purpose, array=entry.array, **values)

    def _next_number(self) -> int:
        numbers = [int(path.stem) for path in self.folder.arrays.glob("*.points") if path.stem.isdigit()]
        return max(numbers, default=-1) + 1

    def _live_array(self) -> str:
        """What of this sweep was sent last and still waits or runs."""
        if self.sent:
            return self.sent[-1].job_id
        alive = {job.submission for job in self.live.values()}
        trains = [entry for entry in self.ledger.entries() if entry.purpose == TRAIN and entry.job_id in alive]
        return trains[-1].job_id if trains else ""

    def _limit(self, plan: Plan) -> int | None:
        limits = (self.config.max_array_size, self._client(plan).max_array_size())
        return min((limit for limit in limits if limit is not None), default=None)

    def _client(self, plan: Plan) -> Client:
        return self._client_at(plan.config.cluster.slurm_conf)

    def _client_at(self, slurm_conf: str | None) -> Client:
        if slurm_conf not in self.clients:
            self.clients[slurm_conf] = Client(slurm_conf)
        return self.clients[slurm_conf]


def _of(member: Member, run: str) -> RunFolder:
    """Another run beside a member's."""
    return RunFolder(member.folder.path.with_name(run))
