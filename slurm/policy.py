"""What a site does to jobs: whether it requeues them, whom it preempts and how, how long it lets them end. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from slurm.parse import setting


class PreemptMode(Enum):
    """What becomes of a job whose nodes a job of higher priority takes."""

    off = "off"
    requeue = "requeue"
    cancel = "cancel"
    suspend = "suspend"


@dataclass(frozen=True)
class Preemption:
    """What a partition does to the jobs in it. `grace_s` is between Slurm's word to a job and the end of its time."""

    mode: PreemptMode
    grace_s: int


@dataclass(frozen=True)
class Policy:
    """A site's rules. `kill_wait_s` is between SIGTERM and SIGKILL; `preemptions` are by partition."""

    requeues: bool = True
    kill_wait_s: int = 30
    preemptions: Mapping[str, Preemption] = field(default_factory=dict)

    def grace_s(self, partition: str) -> int | None:
        """Seconds that a preempted job has to save; None where jobs of the partition are not preempted, or suspended.

        Without a GraceTime there is what lies between SIGTERM and SIGKILL.
        """
        found = self.preemptions.get(partition)
        if found is None or found.mode in (PreemptMode.off, PreemptMode.suspend):
            return None
        return found.grace_s or self.kill_wait_s


def read_policy(config: str, partitions: str) -> Policy:
    """The rules in the output of `scontrol show config` and `scontrol -o show partition`.

    Nobody preempts the partitions of the highest tier. Whom a QOS preempts (PreemptType=preempt/qos) is not said there.
    """
    by_partition = setting(config, "PreemptType") == "preempt/partition_prio"
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in partitions.splitlines()]
    highest = max((_number(row.get("PriorityTier")) for row in rows), default=0)
    preemptions = {}
    for row in rows:
        preempted = by_partition and _number(row.get("PriorityTier")) < highest
        mode = _mode(row.get("PreemptMode", "")) if preempted else PreemptMode.off
        preemptions[row.get("PartitionName", "")] = Preemption(mode, _number(row.get("GraceTime")))
    return Policy(
        requeues=setting(config, "JobRequeue") != "0",
        kill_wait_s=_number(setting(config, "KillWait")),
        preemptions=preemptions,
    )


def _mode(text: str) -> PreemptMode:
    """GANG,SUSPEND and the like stop a job for a while, which nothing has to be saved for."""
    words = {"REQUEUE": PreemptMode.requeue, "CANCEL": PreemptMode.cancel, "OFF": PreemptMode.off}
    return next((mode for word, mode in words.items() if word in text.split(",")), PreemptMode.suspend)


def _number(text: str | None) -> int:
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else 0
