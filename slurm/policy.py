"""What a site does to jobs: whether it requeues them, whom it preempts and how, how long it lets them end. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from slurm import duration
from slurm.parse import setting

QOS_FIELDS = ("Name", "Preempt", "PreemptMode", "GraceTime")


class PreemptMode(Enum):
    """What becomes of a job whose nodes a job of higher priority takes."""

    off = "off"
    requeue = "requeue"
    cancel = "cancel"
    suspend = "suspend"


@dataclass(frozen=True)
class Preemption:
    """What a partition does to the jobs in it. `grace_s` is between Slurm's word to a job and the end of its time.

    It is None where a job's QOS decides on both, and the QOS is not known; then `mode` is the cluster's.
    """

    mode: PreemptMode
    grace_s: int | None


@dataclass(frozen=True)
class Policy:
    """A site's rules. `kill_wait_s` is between SIGTERM and SIGKILL; `preemptions` are by partition."""

    requeues: bool = True
    kill_wait_s: int = 30
    preemptions: Mapping[str, Preemption] = field(default_factory=dict)

    def preempts(self, partition: str) -> bool:
        """Whether jobs of the partition are, or may be, ended or put back for more important ones."""
        found = self.preemptions.get(partition)
        return found is not None and found.mode not in (PreemptMode.off, PreemptMode.suspend)

    def grace_s(self, partition: str) -> int | None:
        """Seconds that a preempted job has to save; None where jobs of the partition are not preempted, or suspended.

        Without a GraceTime there is what lies between SIGTERM and SIGKILL. None also where it is not known.
        """
        if not self.preempts(partition) or self.preemptions[partition].grace_s is None:
            return None
        return self.preemptions[partition].grace_s or self.kill_wait_s


def preempts_by_qos(config: str) -> bool:
    """Whether QOS, and not partitions, say who is preempted; in the output of `scontrol show config`."""
    return setting(config, "PreemptType") == "preempt/qos"


def read_policy(config: str, partitions: str, levels: str = "", qos: str | None = None) -> Policy:
    """The rules in the output of `scontrol show config` and `scontrol -o show partition`.

    Nobody preempts the partitions of the highest tier. Where QOS decide, `qos` is that of the jobs (None: not known),
    and `levels` the output of `sacctmgr --noheader --parsable2 show qos` with the fields above.
    """
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in partitions.splitlines()]
    if preempts_by_qos(config):
        of_qos = _of_qos(setting(config, "PreemptMode") or "", levels, qos)
        preemptions = {row.get("PartitionName", ""): of_qos for row in rows}
    else:
        preemptions = _by_tier(rows, setting(config, "PreemptType") == "preempt/partition_prio")
    return Policy(
        requeues=setting(config, "JobRequeue") != "0",
        kill_wait_s=_number(setting(config, "KillWait")),
        preemptions=preemptions,
    )


def _by_tier(rows: Sequence[Mapping[str, str]], active: bool) -> dict[str, Preemption]:
    highest = max((_number(row.get("PriorityTier")) for row in rows), default=0)
    found = {}
    for row in rows:
        preempted = active and _number(row.get("PriorityTier")) < highest
        mode = _mode(row.get("PreemptMode", "")) if preempted else PreemptMode.off
        found[row.get("PartitionName", "")] = Preemption(mode, _number(row.get("GraceTime")))
    return found


def _of_qos(cluster_mode: str, levels: str, qos: str | None) -> Preemption:
    """What becomes of the jobs of a QOS, which others preempt by their lists."""
    rows = (line.split("|") for line in levels.splitlines())
    known = {row[0]: row[1:] for row in rows if len(row) == len(QOS_FIELDS)}
    preempted = {name for victims, _, _ in known.values() for name in victims.split(",") if name}
    if known and (not preempted or (qos in known and qos not in preempted)):
        return Preemption(PreemptMode.off, 0)
    if qos not in known:
        return Preemption(_mode(cluster_mode), None)
    _, mode, grace = known[qos]
    own = mode.upper()
    return Preemption(_mode(cluster_mode if not own or "CLUSTER" in own else own), _seconds(grace))


def _seconds(grace: str) -> int:
    try:
        return duration.seconds(grace) or 0
    except ValueError:  # 00:00:00
        return 0


def _mode(text: str) -> PreemptMode:
    """GANG,SUSPEND and the like stop a job for a while, which nothing has to be saved for."""
    words = {"REQUEUE": PreemptMode.requeue, "CANCEL": PreemptMode.cancel, "OFF": PreemptMode.off}
    return next((mode for word, mode in words.items() if word in text.split(",")), PreemptMode.suspend)


def _number(text: str | None) -> int:
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else 0
