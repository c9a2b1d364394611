"""What a refusal of Slurm's means for a configuration: the key it is about, and what would do instead."""

from __future__ import annotations

from collections.abc import Iterator

from conf.record import Plan
from launcher.problems import SchedulerError
from launcher.send.scheduler import client_of
from slurm.client import Limits, SlurmError, culprit
from slurm.refusals import SUBMIT_LIMIT, broken_limit

KEYS = {
    "account": "cluster.account",
    "constraint": "cluster.constraint",
    "cpus-per-task": "cluster.cpus_per_task",
    "exclude": "cluster.exclude",
    "gpus-per-node": "cluster.gpus_per_node",
    "gres": "cluster.gres",
    "mem": "cluster.mem",
    "nodelist": "cluster.nodelist",
    "nodes": "cluster.nodes",
    "partition": "cluster.partition",
    "qos": "cluster.qos",
    "reservation": "cluster.reservation",
    "signal": "cluster.signal_lead_s",
    "time": "cluster.time",
}
"""sbatch's options and the keys that set them; every other option comes from `cluster.sbatch`."""


def refused(error: SlurmError, plan: Plan) -> SchedulerError:
    """Slurm's refusal, verbatim, with the key that it is about where its words tell, and what the person may use."""
    lines = [error.stderr.strip() or str(error)]
    option = culprit(error.stderr)
    if option is not None and option != SUBMIT_LIMIT:
        lines.append(f"about: {key_of(option, plan)}")
    limit = broken_limit(error.stderr)
    if limit is not None or option in ("account", "qos"):
        lines += _allowed(option, limit or "", plan)
    return SchedulerError("\n".join(lines))


def key_of(option: str, plan: Plan) -> str:
    """The key that set an sbatch option, with its value."""
    cluster = plan.config.cluster
    raw = {name.replace("_", "-"): value for name, value in cluster.sbatch.items()}
    if option in raw:
        return f"cluster.sbatch.{option}={raw[option]}"
    if option == "gres" and cluster.gres is None:
        option = "gpus-per-node"
    key = KEYS.get(option)
    if key is None:
        return f"sbatch --{option}"
    value = getattr(cluster, key.partition(".")[2])
    return f"{key}={value}" if value is not None else f"{key}, which is not set"


def _allowed(option: str | None, limit: str, plan: Plan) -> Iterator[str]:
    """What the accounting database says of it; nothing where there is none."""
    limits = client_of(plan).limits()
    if limits is None:
        return
    cluster = plan.config.cluster
    account, qos = cluster.account or limits.default_account, cluster.qos or "normal"
    if not limits.accounts:
        yield "the accounting database knows no account of yours; the cluster's administrators give one"
    elif option == "account":
        yield f"your accounts: {', '.join(limits.accounts)}"
    elif option == "qos":
        yield f"your QOS with account {account}: {', '.join(limits.qos_of(account)) or 'none'}"
    elif limit:
        yield from _limits_of(limits, f"account {account}", f"qos {qos}")
        if option == SUBMIT_LIMIT:
            yield "there is room again as jobs end; the same command sends what is not sent"


def _limits_of(limits: Limits, *subjects: str) -> Iterator[str]:
    """The lines on an account and a QOS."""
    for line in limits.words():
        if line.startswith(tuple(f"{subject}{end}" for subject in subjects for end in (":", " "))):
            yield line
