"""What a devcluster is like, as data: `plain` is a quiet site, `strict` one that limits, refuses, shows files late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ALL, FIRST, SECOND = "{all}", "{first}", "{second}"
"""Stand for nodes in `partitions` and `commands`: every node, the first half of them, the second half."""


@dataclass(frozen=True)
class Profile:
    """A kind of site.

    settings    lines of slurm.conf, over those that every devcluster has
    partitions  lines of slurm.conf
    gpus        fake GPUs of each node of the second half: Slurm counts them, no device is behind them
    files       file names beside slurm.conf → their content
    accounts    arguments of sacctmgr; none: a site without a database
    join        arguments of sacctmgr that let `{user}` submit
    commands    arguments of scontrol, given once all nodes are idle
    late_s      seconds for which a node may show the folder `shared` as it was; 0: there is no such folder
    """

    name: str
    partitions: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[tuple[str, ...], ...] = ()
    join: tuple[tuple[str, ...], ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    late_s: int = 0


_PREEMPTED = (
    "PartitionName=preempt PriorityTier=1 PreemptMode=REQUEUE GraceTime=30",
    "PartitionName=preempt_cancel PriorityTier=1 PreemptMode=CANCEL GraceTime=30",
)

PLAIN = Profile(
    name="plain",
    partitions=(
        "PartitionName=DEFAULT Nodes=ALL DefaultTime=01:00:00",
        "PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=12:00:00",
        "PartitionName=long PriorityTier=10 PreemptMode=OFF MaxTime=7-00:00:00",
        *_PREEMPTED,
    ),
)

STRICT = Profile(
    name="strict",
    settings={
        "AccountingStorageEnforce": "associations,limits,qos",
        "AccountingStorageTRES": "gres/gpu",
        "AccountingStoreFlags": "job_comment,job_env,job_script",
        "EnforcePartLimits": "ALL",
        "GresTypes": "gpu",
        "JobAcctGatherFrequency": "task=1",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobRequeue": "0",
        "JobSubmitPlugins": "lua",
    },
    partitions=(
        "PartitionName=DEFAULT Nodes=ALL DefaultTime=01:00:00",
        f"PartitionName=main Nodes={FIRST} Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=02:00:00",
        f"PartitionName=gpu Nodes={SECOND} PriorityTier=10 PreemptMode=OFF MaxTime=00:30:00 MaxNodes=1",
        "PartitionName=once PriorityTier=10 PreemptMode=OFF",
        *_PREEMPTED,
    ),
    gpus=2,
    files={"job_submit.lua": Path(__file__).with_name("job_submit.lua").read_text()},
    accounts=(
        ("add", "account", "lab", "Description=ours", "Organization=ours"),
        ("add", "account", "few", "Description=ours", "Organization=ours", "MaxSubmitJobs=3"),
        ("add", "account", "theirs", "Description=others", "Organization=others"),
        ("add", "qos", "short", "MaxWall=00:10:00", "MaxTRESPerJob=node=1,gres/gpu=1", "Flags=DenyOnLimit"),
        ("add", "qos", "closed"),
    ),
    join=(
        ("add", "user", "{user}", "Account=lab", "DefaultAccount=lab", "QOS=normal,short"),
        ("add", "user", "{user}", "Account=few", "QOS=normal,short"),
    ),
    commands=(
        ("create", "ReservationName=course", "Users=root", "Nodes={last}", "StartTime=now", "Duration=7-00:00:00"),
        ("create", "ReservationName=spare", "Accounts=lab,few", "Nodes={last}", "StartTime=now", "Duration=7-00:00:00",
         "Flags=OVERLAP"),
    ),
    late_s=60,
)  # fmt: skip

PROFILES = {profile.name: profile for profile in (PLAIN, STRICT)}
