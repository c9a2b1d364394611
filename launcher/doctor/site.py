"""What a site's Slurm says: partitions, limits, preemption, arrays, accounts; which partition to begin with."""

from __future__ import annotations

import grp
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.doctor.finding import Finding, output_of
from launcher.facts.slurm import DEVCLUSTER
from launcher.plan.topology import gpus_of_gres
from slurm import devcluster, duration
from slurm.access import Access
from slurm.client import Client, Limits, SlurmError
from slurm.parse import Partition
from slurm.policy import Policy, PreemptMode

PATIENCE_S = 5.0
SETTINGS = ("ClusterName", "MaxArraySize", "TmpFS", "JobRequeue", "PreemptType", "PrologFlags")


@dataclass(frozen=True)
class Site:
    """A site's Slurm. `slurm_conf` as a configuration has it; `limits` None where there is no accounting."""

    slurm_conf: str | None
    version: str
    partitions: tuple[Partition, ...]
    policy: Policy
    access: Mapping[str, Access]
    limits: Limits | None
    settings: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    modules: bool = False

    def allowed(self, partition: Partition) -> bool:
        """Whether this person may use a partition."""
        accounts = self.limits.accounts if self.limits else []
        return self.access.get(partition.name, Access()).allows(accounts, _groups())

    def preempted(self, partition: Partition) -> bool:
        """Whether its jobs are, or may be, ended or put back for more important ones."""
        return self.policy.preempts(partition.name)

    @property
    def chosen(self) -> Partition | None:
        """The partition to begin with: one that may be used, with GPUs, not preempted, the default one, the largest."""
        usable = [one for one in self.partitions if one.up and self.allowed(one)]
        return max(
            usable,
            key=lambda one: (bool(gpus(one)), not self.preempted(one), one.default, one.nodes),
            default=None,
        )


def gpus(partition: Partition) -> dict[str, int]:
    """GPUs of a node by their type in Slurm's configuration (an empty name where it has none): `{'h100': 8}`."""
    found: dict[str, int] = {}
    for part in re.sub(r"\([^)]*\)", "", partition.gres).split(","):
        if count := gpus_of_gres(part):
            words = part.replace("/", ":").split(":")
            kind = words[1] if len(words) > 1 and not words[1].isdigit() else ""
            found[kind] = max(found.get(kind, 0), count)
    return found


def look(slurm_conf: str | None) -> Site | Finding:
    """Ask Slurm for everything, or say why it cannot be asked."""
    conf = devcluster.find() if slurm_conf == DEVCLUSTER else slurm_conf
    if slurm_conf == DEVCLUSTER and conf is None:
        return Finding("Slurm", False, "no devcluster runs on this machine", "muster devcluster up")
    if shutil.which("sbatch") is None:
        return Finding("Slurm", False, "no sbatch here", "`muster run` works; to try Slurm: muster devcluster up")
    client = Client(conf, patience_s=PATIENCE_S)
    try:
        values = dict(zip(SETTINGS, client.settings(*SETTINGS), strict=True))
        return Site(
            slurm_conf=slurm_conf,
            version=client.version(),
            partitions=tuple(client.partitions()),
            policy=client.policy(),
            access=client.access(),
            limits=client.limits(),
            settings={name: value for name, value in values.items() if value},
            containers=_containers(),
            modules=bool(os.environ.get("LMOD_CMD") or os.environ.get("MODULESHOME")),
        )
    except SlurmError as error:
        return Finding("Slurm", False, str(error).splitlines()[0], "cluster=slurm cannot be used here now")


def examine_slurm(site: Site | Finding) -> list[Finding]:
    """A site in findings."""
    if isinstance(site, Finding):
        return [site]
    name = site.settings.get("ClusterName", "")
    found = [Finding("Slurm", True, f"{site.version} ({shutil.which('sbatch')}), cluster {name}")]
    found += [_partition(site, one) for one in site.partitions]
    if not site.policy.requeues:
        found.append(Finding("requeue", True, "forbidden (JobRequeue=0)", "runs go on by a chain of jobs"))
    if size := site.settings.get("MaxArraySize"):
        found.append(Finding("arrays", size != "0", f"up to {size} elements (MaxArraySize): points of a sweep at once"))
    if site.limits is not None:
        told = "; ".join(site.limits.words())
        without = "no account of yours in the accounting database"
        found.append(Finding("Slurm limits", bool(told), told or without, "" if told else "jobs may be refused"))
    if site.containers:
        found.append(Finding("containers", True, ", ".join(site.containers)))
    return found


def _partition(site: Site, one: Partition) -> Finding:
    limit = duration.written(one.time_limit_s) if one.time_limit_s else "no limit"
    cards = ", ".join(f"{count} {kind + ' ' if kind else ''}GPUs" for kind, count in gpus(one).items()) or "no GPUs"
    words = [f"{one.nodes} nodes of {one.cpus_per_node} cores, {one.mem_mib_per_node / 1024:.0f} GiB, {cards}"]
    words += [f"up to {limit}", *([f"{one.max_nodes} nodes a job"] if one.max_nodes else [])]
    rule = site.policy.preemptions.get(one.name)
    follows = ""
    if rule is not None and site.preempted(one):
        how = {PreemptMode.requeue: "requeued", PreemptMode.cancel: "cancelled"}.get(rule.mode, rule.mode.value)
        grace = site.policy.grace_s(one.name)
        if grace is None:
            words.append(f"its jobs may be preempted ({how}): their QOS decides, and on the grace")
            follows = "`muster plan` with cluster.qos=… says whether a save fits its grace"
        else:
            words.append(f"its jobs are preempted ({how}, {grace} s of grace)")
            follows = f"a save has to fit into {grace} s; `muster plan` says whether it does"
    if not one.up or not site.allowed(one):
        words.append("not up" if not one.up else "not for your accounts or groups")
    default = " (default)" if one.default else ""
    return Finding(f"partition {one.name}{default}", one.up and site.allowed(one), ", ".join(words), follows)


def _containers() -> tuple[str, ...]:
    """Ways to run a container that are seen from here: srun's plugin pyxis, apptainer."""
    found = []
    if shutil.which("srun") and "--container-image" in (output_of(["srun", "--help"]) or ""):
        found.append("pyxis")
    return (*found, *(name for name in ("apptainer", "singularity") if shutil.which(name)))


def _groups() -> list[str]:
    names = []
    for gid in {os.getgid(), *os.getgroups()}:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
