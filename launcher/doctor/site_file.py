"""A cluster file from what was found: `muster doctor --site > ~/.config/muster/cluster/mysite.yaml`. Pure.

Every key says what it is and where its value comes from. What cannot be seen from a login node stands as a comment,
with an example to fill in.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from conf.gpus import slice_of
from launcher.doctor.links import Adapter, Interface
from launcher.doctor.site import Site, gpus
from launcher.doctor.storage import Place
from launcher.plan.memory.devices import usable_gib
from slurm import duration
from slurm.parse import Partition

LONGEST_S = 24 * 3600
"""A first suggestion where a partition allows more: long enough to work in, short enough to be fitted in."""

PLAIN = re.compile(r"[A-Za-z/][\w./@-]*")
YAML_WORDS = frozenset(("yes", "no", "on", "off", "true", "false", "null", "y", "n"))


@dataclass(frozen=True)
class Here:
    """What this machine adds: the ranks' Python, the folders, networks, and figures of a bench."""

    python: Place
    run_root: Place
    adapters: tuple[Adapter, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    measured: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Entry:
    """A key with its value as YAML; `set` false leaves it as a comment."""

    key: str
    value: str
    about: str
    set: bool = True

    def lines(self) -> list[str]:
        """The entry in the file."""
        mark = "" if self.set else "# "
        about = textwrap.wrap(self.about, 110, break_long_words=False, break_on_hyphens=False)
        return [*(f"# {line}" for line in about), f"{mark}{self.key}: {self.value}", ""]


def site_file(site: Site, here: Here, written: str) -> str:
    """The whole file; `written` says where and when."""
    head = [
        f"# Written by `muster doctor --site` {written}, from what Slurm {site.version} and this machine said.",
        "# Put it into ~/.config/muster/cluster/NAME.yaml, or for everybody into $MUSTER_SITE/cluster/NAME.yaml, and",
        "# use it as cluster=NAME. `muster plan cluster=NAME experiment=demo` shows what it would send.",
        "defaults: [slurm, _self_]",
        "",
    ]
    entries = [*_slurm(site), *_python(site, here), *_disks(site, here), *_network(here), *_speed(here)]
    return "\n".join([*head, *(line for entry in entries for line in entry.lines())]).rstrip() + "\n"


def _slurm(site: Site) -> Iterator[Entry]:
    if site.slurm_conf:
        yield Entry("slurm_conf", quoted(site.slurm_conf), "Which Slurm: as given to muster doctor.")
    yield from _account(site)
    partition = site.chosen
    if partition is None:
        yield Entry("partition", "gpu", "sbatch --partition. None that is up and that you may use was found.", False)
        return
    others = [one.name for one in site.partitions if one.name != partition.name]
    also = f" Others: {', '.join(others)}." if others else ""
    why = "the default one" if partition.default else "has GPUs" if gpus(partition) else "you may use it"
    about = f"sbatch --partition: {partition.nodes} nodes, {why} (sinfo).{also}"
    yield Entry("partition", quoted(partition.name), about)
    yield from _time(site, partition)
    yield from _resources(partition)
    yield _continuation(site, partition)


def _account(site: Site) -> Iterator[Entry]:
    limits = site.limits
    if limits is None:
        yield Entry(
            "account", "abc123", "sbatch --account: whom the job is charged to; this Slurm asks for none.", False
        )
        return
    names = limits.accounts
    if not names:
        yield Entry("account", "abc123", "sbatch --account. The accounting database has none of yours: ask.", False)
        return
    said = f"sbatch --account: whom the job is charged to. Yours: {', '.join(names)} (sacctmgr), the default one first."
    yield Entry("account", quoted(names[0]), said)
    levels = limits.qos_of(names[0])
    if len(levels) > 1:
        bounds = [f"{name} ({limits.qos[name].words() or 'no limits'})" for name in levels if name in limits.qos]
        yield Entry("qos", quoted(levels[0]), f"sbatch --qos. Yours: {'; '.join(bounds)}.", False)


def _time(site: Site, partition: Partition) -> Iterator[Entry]:
    limit = partition.time_limit_s
    time = min(limit, LONGEST_S) if limit else LONGEST_S
    most = f"partition {partition.name} allows {duration.written(limit)}" if limit else "the partition has no limit"
    about = f"sbatch --time, in quotes. At most: {most} (sinfo). A run that is not done by then goes on in a new job."
    yield Entry("time", f"'{duration.written(time)}'", about)


def _resources(partition: Partition) -> Iterator[Entry]:
    kinds = gpus(partition)
    if kinds:
        whole = {kind: count for kind, count in kinds.items() if not slice_of(kind)}
        kind, count = max((whole or kinds).items(), key=lambda item: item[1])
        if len(kinds) > 1:
            found = ", ".join(f"{name or 'untyped'} × {number}" for name, number in kinds.items())
            named = quoted(f"gpu:{kind}:{count}" if kind else f"gpu:{count}")
            yield Entry(
                "gres", named, f"sbatch --gres: nodes of the partition differ ({found}, sinfo); this names one kind."
            )
        named = f" {kind}" if kind else ""
        yield Entry("gpus_per_node", str(count), f"{count}{named} GPUs on a node (sinfo); a rank on each.")
        known = usable_gib(kind) if kind else None
        if known is None:
            yield Entry(
                "gpu_memory_gib",
                "79",
                "GiB of one GPU, for the estimate of memory: Slurm does not name the GPU.",
                False,
            )
    else:
        yield Entry("gpus_per_node", "0", "No GPUs in this partition (sinfo): ranks compute on the CPU.")
        yield Entry("ranks_per_node", "1", "Ranks of a node, which share its cores.")
    cores = f"Cores of a node for all its ranks: all that its smallest node has (sinfo: {partition.cpus_per_node})."
    yield Entry("cpus_per_task", str(partition.cpus_per_node), cores)
    memory = (
        f"Host memory of a node; '0' is all of it, {partition.mem_mib_per_node / 1024:.0f} GiB on the smallest (sinfo)."
    )
    yield Entry("mem", "'0'", memory, set=bool(kinds))


def _continuation(site: Site, partition: Partition) -> Entry:
    rule = site.policy.preemptions.get(partition.name)
    chain = not site.policy.requeues or (rule is not None and site.preempted(partition) and rule.mode.value == "cancel")
    why = (
        "a chain of jobs, since Slurm forbids to requeue or cancels what it preempts" if chain else "requeueing its job"
    )
    return Entry(
        "continuation", "auto", f"How a run goes on after its time limit or a preemption. auto means here: {why}."
    )


def _python(site: Site, here: Here) -> Iterator[Entry]:
    where = "a shared file system" if here.python.shared else "a file system of this machine: nodes may not see it"
    about = f"Python of the ranks, with `pip install 'muster[train]'`. This one is on {where} ({here.python.kind})."
    yield Entry("python", quoted(str(here.python.folder)), about)
    if site.modules:
        yield Entry(
            "modules", "[cuda/12.8]", "`module load` before the launch; this site has modules (`module avail`).", False
        )
    if site.containers:
        runtime = "pyxis" if "pyxis" in site.containers else "apptainer"
        about = (
            f"Ranks in a container: {', '.join(site.containers)} found here. `python: python3` is then the image's own."
        )
        yield Entry("container", f"{{runtime: {runtime}, image: /shared/muster.sqsh}}", about, False)


def _disks(site: Site, here: Here) -> Iterator[Entry]:
    scratch = site.settings.get("TmpFS", "/tmp")
    about = "Folder on a node's own disk for temporary files and caches of compilers (TmpFS in Slurm's configuration)."
    yield Entry("scratch", quoted(scratch), about)
    if not here.run_root.shared:
        lies = f"{here.run_root.folder} lies on a file system of this machine ({here.run_root.kind})"
        about = (
            f"Not a key of this file: {lies}, and nodes have to see run folders. Name a shared one in defaults.yaml."
        )
        yield Entry("run_root", "/shared/runs", about, False)


def _network(here: Here) -> Iterator[Entry]:
    names = [one.name for one in here.interfaces]
    fast = next((name for name in names if name.startswith(("ib", "hsn"))), names[0] if names else "ib0")
    active = [one.name for one in here.adapters if one.active]
    seen = f"This machine, which may differ from the nodes, has {', '.join(names) or 'none'}"
    seen += f" and the adapters {', '.join(active)}" if active else ""
    value = f"{{interface: {fast}" + (f", ib_hcas: [{', '.join(active)}]" if active else "") + "}"
    about = f"Which network the ranks use, where node names lead to a slow one. {seen} (/sys)."
    yield Entry("network", value, about, False)


def _speed(here: Here) -> Iterator[Entry]:
    measured = here.measured or {}
    texts = {
        "intra_node_gbps": (
            "3600",
            "Gbit/s that a rank receives from the others of its node, for the estimate of time.",
        ),
        "inter_node_gbps": ("400", "Gbit/s that a node receives from others, for the estimate of time."),
        "host_link_gbps": ("440", "Gbit/s between a GPU and its host's memory, for the estimate of time."),
    }
    for key, (example, about) in texts.items():
        value = measured.get(key)
        source = (
            "Measured by --bench."
            if value is not None
            else "Not measured: muster doctor --bench cluster=NAME cluster.nodes=2."
        )
        yield Entry(key, f"{value:.4g}" if value is not None else example, f"{about} {source}", value is not None)


def quoted(text: str) -> str:
    """The text as a YAML scalar that stays text."""
    if PLAIN.fullmatch(text) and text.lower() not in YAML_WORDS:
        return text
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)
