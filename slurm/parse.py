"""Output of Slurm's commands as values: fixed `-o` fields with a separator that no value of ours can hold.

`--json` is not used, since its schema changes between versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slurm import duration, states

SEPARATOR = "\x1f"
QUEUE_FIELDS = ("%i", "%T", "%r", "%P", "%D", "%N", "%M", "%L", "%S", "%a", "%q", "%o", "%j")
PARTITION_FIELDS = ("%P", "%a", "%l", "%D", "%s", "%c", "%m", "%G")
ACCOUNT_FIELDS = ("JobID", "State", "ExitCode", "Elapsed", "NodeList")

_SUBMITTED = re.compile(r"^(?:Submitted batch job )?(\d+)(?:;\S*)?$", re.MULTILINE)
_JOB_ID = re.compile(r"\d+(?:_\d+)?")
_ESTIMATE = re.compile(
    r"Job (\d+) to start at (\S+) (?:a )?using (\d+) processors on (?:nodes )?(\S+)(?: in partition (\S+))?"
)


@dataclass(frozen=True)
class Job:
    """A job that Slurm still has, `123`, or an element of an array, `123_4`.

    Times as Slurm writes them; `command` is the path of the script.
    """

    id: str
    name: str = ""
    state: str = "PENDING"
    reason: str = "None"
    partition: str = ""
    nodes: int = 0
    node_list: str = ""
    used: str = ""
    left: str = ""
    start: str = ""
    account: str = ""
    qos: str = ""
    command: str = ""

    @property
    def submission(self) -> str:
        """The id that sbatch answered: of an element, its array's."""
        return self.id.partition("_")[0]

    @property
    def is_pending(self) -> bool:
        return states.is_pending(self.state)

    @property
    def explanation(self) -> str:
        """Why it waits, in plain words; empty where it does not wait."""
        return states.explain_reason(self.reason) if self.is_pending else ""


@dataclass(frozen=True)
class Estimate:
    """What `sbatch --test-only` says: when and where the job would start."""

    start: str
    processors: int
    nodes: str
    partition: str


@dataclass(frozen=True)
class Partition:
    """A partition; limits are None where it has none, resources those of its smallest node.

    `most_cpus` and `most_mem_mib` are those of its largest one, 0 where all are alike, None where sinfo says only that
    there are larger ones (`40+`).
    """

    name: str
    default: bool
    up: bool
    nodes: int
    max_nodes: int | None
    time_limit_s: int | None
    cpus_per_node: int
    mem_mib_per_node: int
    gres: str
    most_cpus: int | None = 0
    most_mem_mib: int | None = 0


@dataclass(frozen=True)
class Account:
    """What the accounting database says of a job."""

    id: str
    state: str
    exit_code: str
    elapsed: str
    node_list: str

    @property
    def explanation(self) -> str:
        return states.explain_final(self.state)


def is_job_id(text: str) -> bool:
    """Whether it is the id of a job or of an array's element."""
    return _JOB_ID.fullmatch(text) is not None


def submitted_id(output: str) -> str | None:
    """The job id in sbatch's answer, with or without --parsable."""
    found = _SUBMITTED.search(output.strip())
    return found[1] if found else None


def estimate(output: str) -> Estimate | None:
    """The estimate in the answer of `sbatch --test-only`."""
    found = _ESTIMATE.search(output)
    return Estimate(found[2], int(found[3]), found[4], found[5] or "") if found else None


def queue(output: str) -> list[Job]:
    """The jobs in squeue's output with `QUEUE_FIELDS`; lines of another shape are left out."""
    jobs = []
    for line in output.splitlines():
        fields = line.split(SEPARATOR)
        if len(fields) != len(QUEUE_FIELDS) or not is_job_id(fields[0]):
            continue
        job_id, state, reason, partition, nodes, node_list, used, left, start, account, qos, command, name = fields
        job = Job(
            id=job_id,
            name=name,
            state=state,
            reason=reason,
            partition=partition,
            nodes=int(nodes) if nodes.isdigit() else 0,
            node_list=node_list,
            used=used,
            left=left,
            start=start,
            account=account,
            qos=qos,
            command=command,
        )
        jobs.append(job)
    return jobs


def partitions(output: str) -> list[Partition]:
    """The partitions in sinfo's output with `PARTITION_FIELDS`; lines of one partition are put together."""
    found: dict[str, Partition] = {}
    for line in output.splitlines():
        fields = line.split(SEPARATOR)
        if len(fields) != len(PARTITION_FIELDS):
            continue
        marked, available, limit, nodes, sizes, cpus, memory, gres = fields
        name = marked.rstrip("*")
        largest = sizes.rpartition("-")[2]
        part = Partition(
            name=name,
            default=marked.endswith("*"),
            up=available.startswith("up"),
            nodes=int(nodes),
            max_nodes=int(largest) if largest.isdigit() else None,
            time_limit_s=_limit(limit),
            cpus_per_node=int(cpus.rstrip("+")),
            mem_mib_per_node=int(memory.rstrip("+")),
            gres="" if gres == "(null)" else gres,
            most_cpus=None if cpus.endswith("+") else 0,
            most_mem_mib=None if memory.endswith("+") else 0,
        )
        found[name] = _joined(found[name], part) if name in found else part
    return list(found.values())


def node_names(output: str) -> list[str]:
    """The nodes in sinfo's output, one a line, each once."""
    return list(dict.fromkeys(line.strip() for line in output.splitlines() if line.strip()))


def accounts(output: str) -> list[Account]:
    """The jobs in sacct's output with `ACCOUNT_FIELDS`, steps left out."""
    lines = (line.split("|") for line in output.splitlines())
    return [Account(*fields) for fields in lines if len(fields) == len(ACCOUNT_FIELDS) and is_job_id(fields[0])]


def setting(output: str, name: str) -> str | None:
    """A value in the output of `scontrol show config`."""
    found = re.search(rf"^{re.escape(name)}\s*= (.*)$", output, re.MULTILINE)
    return found[1].strip() if found else None


def _limit(text: str) -> int | None:
    try:
        return duration.seconds(text)
    except ValueError:
        return None


def _joined(one: Partition, other: Partition) -> Partition:
    return Partition(
        name=one.name,
        default=one.default,
        up=one.up,
        nodes=one.nodes + other.nodes,
        max_nodes=one.max_nodes,
        time_limit_s=one.time_limit_s,
        cpus_per_node=min(one.cpus_per_node, other.cpus_per_node),
        mem_mib_per_node=min(one.mem_mib_per_node, other.mem_mib_per_node),
        gres=",".join(sorted({gres for gres in (one.gres, other.gres) if gres})),
        most_cpus=_most((one.cpus_per_node, one.most_cpus), (other.cpus_per_node, other.most_cpus)),
        most_mem_mib=_most((one.mem_mib_per_node, one.most_mem_mib), (other.mem_mib_per_node, other.most_mem_mib)),
    )


def _most(one: tuple[int, int | None], other: tuple[int, int | None]) -> int | None:
    """Of the smallest and the largest of two groups of nodes, the largest of all; 0 where all are alike."""
    sizes = [size for size in (*one, *other) if size]
    if one[1] is None or other[1] is None:
        return None
    return max(sizes) if len(set(sizes)) > 1 else 0
