"""What the accounting database allows a person: their accounts, the QOS of each, and the limits of both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ASSOCIATION_FIELDS = ("Account", "Partition", "QOS", "MaxJobs", "MaxSubmit", "MaxWall", "MaxTRES")
QOS_FIELDS = ("Name", "MaxJobsPU", "MaxSubmitPU", "MaxWall", "MaxTRES")
USER_FIELDS = ("DefaultAccount",)


@dataclass(frozen=True)
class Bounds:
    """What one account or QOS allows; None and empty where nothing is limited.

    `submit` counts jobs that wait or run, `jobs` those that run, each element of an array as one. `wall` and `tres` are
    of one job, as Slurm writes them.
    """

    jobs: int | None = None
    submit: int | None = None
    wall: str = ""
    tres: str = ""

    def words(self) -> str:
        """The limits on one line; empty where there are none."""
        parts = [
            f"{self.submit} jobs waiting or running" if self.submit is not None else "",
            f"{self.jobs} jobs running" if self.jobs is not None else "",
            f"{self.wall} a job" if self.wall else "",
            f"{self.tres} a job" if self.tres else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Association:
    """An account that a person may use, perhaps in one partition alone, with what QOS."""

    account: str
    partition: str
    qos: tuple[str, ...]
    bounds: Bounds


@dataclass(frozen=True)
class Limits:
    """Everything that the accounting database allows one person."""

    default_account: str
    associations: tuple[Association, ...]
    qos: dict[str, Bounds]

    @property
    def accounts(self) -> list[str]:
        """The person's accounts, the default one first."""
        names = dict.fromkeys(one.account for one in self.associations)
        return sorted(names, key=lambda name: name != self.default_account)

    def qos_of(self, account: str | None) -> list[str]:
        """The QOS that may be used with an account (None: the default one)."""
        wanted = account or self.default_account
        return list(dict.fromkeys(name for one in self._of(wanted) for name in one.qos))

    def submit_limit(self, account: str | None, qos: str | None, partition: str | None = None) -> int | None:
        """How many jobs may wait or run at a time with an account (None: the default one), a QOS and a partition.

        Several partitions stand with commas between them.
        """
        bounds = [one.bounds for one in self._at(account or self.default_account, partition or "")]
        bounds += [self.qos[qos]] if qos in self.qos else []
        return min((one.submit for one in bounds if one.submit is not None), default=None)

    def words(self) -> list[str]:
        """One line for each account and each QOS that limits something."""
        lines = []
        for one in self.associations:
            where = f" in partition {one.partition}" if one.partition else ""
            limits = f": at most {one.bounds.words()}" if one.bounds.words() else ""
            lines.append(f"account {one.account}{where} (qos {', '.join(one.qos) or 'none'}){limits}")
        mine = {name for one in self.associations for name in one.qos}
        for name, bounds in self.qos.items():
            if name in mine and bounds.words():
                lines.append(f"qos {name}: at most {bounds.words()}")
        return lines

    def _of(self, account: str) -> list[Association]:
        return [one for one in self.associations if one.account == account]

    def _at(self, account: str, partitions: str) -> Iterator[Association]:
        """Slurm takes the association of the partition where there is one, else that of no partition."""
        mine = self._of(account)
        for name in partitions.split(","):
            own = [one for one in mine if one.partition == name]
            yield from own or [one for one in mine if not one.partition]


def limits(associations: str, qos: str, users: str) -> Limits:
    """The limits in the output of `sacctmgr --noheader --parsable2 show`, each with the fields above."""
    found = [
        Association(account, partition, tuple(filter(None, names.split(","))), _bounds(jobs, submit, wall, tres))
        for account, partition, names, jobs, submit, wall, tres in _rows(associations, len(ASSOCIATION_FIELDS))
    ]
    levels = {name: _bounds(jobs, submit, wall, tres) for name, jobs, submit, wall, tres in _rows(qos, len(QOS_FIELDS))}
    default = next((row[0] for row in _rows(users, len(USER_FIELDS))), "")
    return Limits(default, tuple(found), levels)


def _bounds(jobs: str, submit: str, wall: str, tres: str) -> Bounds:
    return Bounds(_number(jobs), _number(submit), wall, tres)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _rows(output: str, width: int) -> Iterable[list[str]]:
    rows = (line.split("|") for line in output.splitlines())
    return (row for row in rows if len(row) == width)
