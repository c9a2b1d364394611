"""Who may use a partition, as its `Allow…` and `Deny…` lists say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EVERYBODY = ("ALL", "")


@dataclass(frozen=True)
class Access:
    """The lists of one partition; empty where everybody is meant. Slurm compares names without their case."""

    accounts: frozenset[str] = frozenset()
    no_accounts: frozenset[str] = frozenset()
    qos: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def allows(self, accounts: Iterable[str], groups: Iterable[str]) -> bool:
        """Whether one of a person's accounts and groups lets them in; without known accounts the groups decide."""
        mine = {name.lower() for name in accounts}
        usable = (mine & self.accounts if self.accounts else mine) - self.no_accounts
        return (not mine or bool(usable)) and (not self.groups or bool(self.groups & {name.lower() for name in groups}))


def read_access(partitions: str) -> dict[str, Access]:
    """The lists by partition, in the output of `scontrol -o show partition`."""
    found = {}
    for line in partitions.splitlines():
        row = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name := row.get("PartitionName"):
            lists = (row.get(key, "") for key in ("AllowAccounts", "DenyAccounts", "AllowQos", "AllowGroups"))
            found[name] = Access(*map(_names, lists))
    return found


def _names(text: str) -> frozenset[str]:
    return frozenset() if text in EVERYBODY else frozenset(name.lower() for name in text.split(","))
