"""The configuration files of a devcluster, as text."""

from __future__ import annotations

from pathlib import Path

from slurm.devcluster.record import Record

REQUEUE_WAIT_S = 20
"""How long a requeued job waits: Slurm lets the credential of the old start expire first (its default is 120 s)."""


def slurm_conf(record: Record, user: str, memory_mib: int) -> str:
    """slurm.conf: absolute paths, short timeouts, preemption by partition."""
    folder = Path(record.folder)
    lines = [
        "ClusterName=muster",
        f"SlurmctldHost={record.controller_host}({record.controller_address})",
        f"SlurmctldPort={record.controller_port}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket,cred_expire={REQUEUE_WAIT_S}",
        "CredType=cred/munge",
        f"StateSaveLocation={folder}/controller",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/%n.log",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=2",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "JobRequeue=1",
        "ReturnToService=2",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "MailProg=/bin/true",
        "JobAcctGatherType=jobacct_gather/none",
        "SlurmdParameters=config_overrides",
        "SlurmctldTimeout=30",
        "SlurmdTimeout=15",
        "KillWait=5",
        "InactiveLimit=0",
        "MinJobAge=300",
        "DefMemPerNode=1024",
    ]
    for number, name in enumerate(record.node_names(), start=1):
        port = record.node_port if record.network is not None else record.node_port + number
        host = name if record.network is not None else record.controller_host
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr={record.node_address(number)} Port={port} "
            f"CPUs={record.cpus_per_node} RealMemory={memory_mib} State=UNKNOWN"
        )
    lines += [
        "PartitionName=DEFAULT Nodes=ALL DefaultTime=01:00:00",
        "PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=12:00:00",
        "PartitionName=long PriorityTier=10 PreemptMode=OFF MaxTime=7-00:00:00",
        "PartitionName=preempt PriorityTier=1 PreemptMode=REQUEUE GraceTime=30",
        "PartitionName=preempt_cancel PriorityTier=1 PreemptMode=CANCEL GraceTime=30",
    ]
    return "\n".join(lines) + "\n"


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
