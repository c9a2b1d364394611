"""The configuration files of a devcluster, as text."""

from __future__ import annotations

from pathlib import Path

from slurm.devcluster.profiles import Profile
from slurm.devcluster.record import Record

CLUSTER = "muster"

REQUEUE_WAIT_S = 20
"""How long a requeued job waits: Slurm lets the credential of the old start expire first (its default is 120 s)."""


def slurm_conf(record: Record, profile: Profile, user: str, memory_mib: int) -> str:
    """slurm.conf: absolute paths, short timeouts, preemption by partition, and what the profile says over that."""
    settings = _settings(record, user) | dict(profile.settings)
    if profile.accounts:
        settings |= {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": record.controller_address,
            "AccountingStoragePort": str(record.database_port),
            "AccountingStoragePass": f"{record.folder}/munge/socket",  # no password: where munge listens
        }
    lines = [f"{name}={value}" for name, value in settings.items()]
    for number, name in enumerate(record.node_names(), start=1):
        port = record.node_port if record.network is not None else record.node_port + number
        host = name if record.network is not None else record.controller_host
        gres = f" Gres=gpu:{profile.gpus}" if name in gpu_nodes(record, profile) else ""
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr={record.node_address(number)} Port={port} "
            f"CPUs={record.cpus_per_node} RealMemory={memory_mib}{gres} State=UNKNOWN"
        )
    lines += [with_nodes(line, record) for line in profile.partitions]
    return "\n".join(lines) + "\n"


def gres_conf(record: Record, profile: Profile) -> str:
    """gres.conf: GPUs that are only counted. slurmd wants a file for each and looks no further than its existence."""
    files = f"{record.folder}/gpus/gpu[0-{profile.gpus - 1}]"
    lines = [f"NodeName={name} Name=gpu File={files}" for name in gpu_nodes(record, profile)]
    return "".join(f"{line}\n" for line in lines)


def gpu_nodes(record: Record, profile: Profile) -> list[str]:
    """The nodes that have fake GPUs."""
    return _second_half(record) if profile.gpus else []


def with_nodes(line: str, record: Record) -> str:
    """A line of a profile with the devcluster's own nodes in it."""
    names = record.node_names()
    second = _second_half(record)
    first = [name for name in names if name not in second] or names
    return line.format(all=",".join(names), first=",".join(first), second=",".join(second), last=names[-1])


def _second_half(record: Record) -> list[str]:
    names = record.node_names()
    return names[len(names) // 2 :]


def _settings(record: Record, user: str) -> dict[str, str]:
    folder = Path(record.folder)
    return {
        "ClusterName": CLUSTER,
        "SlurmctldHost": f"{record.controller_host}({record.controller_address})",
        "SlurmctldPort": f"{record.controller_port}",
        "SlurmUser": f"{user}",
        "SlurmdUser": f"{user}",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge/socket,cred_expire={REQUEUE_WAIT_S}",
        "CredType": "cred/munge",
        "StateSaveLocation": f"{folder}/controller",
        "SlurmdSpoolDir": f"{folder}/spool/%n",
        "SlurmctldLogFile": f"{folder}/log/slurmctld.log",
        "SlurmdLogFile": f"{folder}/log/%n.log",
        "SlurmctldPidFile": f"{folder}/run/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/run/%n.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=5,bf_interval=2",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": "1",
        "ReturnToService": "2",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "MailProg": "/bin/true",
        "JobAcctGatherType": "jobacct_gather/none",
        "SlurmdParameters": "config_overrides",
        "SlurmctldTimeout": "30",
        "SlurmdTimeout": "15",
        "KillWait": "5",
        "InactiveLimit": "0",
        "MinJobAge": "300",
        "DefMemPerNode": "1024",
    }


def hosts(record: Record) -> str:
    """/etc/hosts of every node: the machine itself and all nodes."""
    lines = ["127.0.0.1 localhost", "::1 localhost", f"{record.controller_address} {record.controller_host}"]
    lines += [f"{record.node_address(number)} {name}" for number, name in enumerate(record.node_names(), start=1)]
    return "\n".join(lines) + "\n"


NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files
networks: files
protocols: files
services: files
"""
"""nsswitch.conf of every node: with DNS in it, each connection between nodes waits ten seconds and more."""
