"""Our environment variables on a node, and torch's in a rank: the one place that reads them.

The job script sets ours (`slurm/body.sh`); torchelastic sets the rank's. Nothing here knows Slurm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conf.outcome import Cause
from train.pulse import pulse_file

NODE_NAMES = {
    "MUSTER_RUN": "the run folder",
    "MUSTER_ATTEMPT": "number of this attempt",
    "MUSTER_NODES": "nodes of the job",
    "MUSTER_NODE_RANK": "number of this node",
    "MUSTER_HEAD": "address of node 0",
    "MUSTER_PORT": "port on node 0 where the nodes meet",
    "MUSTER_SCRATCH": "node-local folder of this job",
    "MUSTER_JOB": "scheduler and job id, such as slurm:123 or local:456",
}
RANK_NAMES = {
    "RANK": "number of this rank",
    "LOCAL_RANK": "number of this rank on its node",
    "WORLD_SIZE": "ranks of the job",
    "LOCAL_WORLD_SIZE": "ranks of this node",
    "GROUP_RANK": "number of this node",
    "MASTER_ADDR": "address of node 0",
    "MASTER_PORT": "port of the store on node 0",
    "MUSTER_SCRATCH": NODE_NAMES["MUSTER_SCRATCH"],
}


class MissingEnvironmentError(Exception):
    """Variables that are missing or not numbers, all of them at once."""

    cause = Cause.config


@dataclass(frozen=True)
class NodeEnv:
    """What the job script tells a node. `hosts` may be empty, `end_time` None where nobody knows them."""

    run: Path
    attempt: int
    nodes: int
    node: int
    head: str
    port: int
    scratch: Path
    job: str
    hosts: tuple[str, ...]
    end_time: float | None = None

    def name_of(self, node: int) -> str:
        """A node's name in the scheduler, made up where the job script knows none."""
        return self.hosts[node] if len(self.hosts) == self.nodes else f"node{node}"

    @property
    def is_head(self) -> bool:
        """Whether this is node 0: it prepares the data, holds the store and decides local runs."""
        return self.node == 0

    @property
    def is_local(self) -> bool:
        """Whether no scheduler is there, so that nobody runs `decide` after the agent."""
        return self.job.startswith("local:")


@dataclass(frozen=True)
class RankEnv:
    """What torchelastic tells a rank."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    node: int
    master_addr: str
    master_port: int
    scratch: Path


def read_node_env(environ: Mapping[str, str]) -> NodeEnv:
    """Our variables.

    Raises:
        MissingEnvironmentError: names every variable that is missing or not a number, and what it is for.
    """
    _require(environ, NODE_NAMES, numbers=("MUSTER_ATTEMPT", "MUSTER_NODES", "MUSTER_NODE_RANK", "MUSTER_PORT"))
    return NodeEnv(
        run=Path(environ["MUSTER_RUN"]),
        attempt=int(environ["MUSTER_ATTEMPT"]),
        nodes=int(environ["MUSTER_NODES"]),
        node=int(environ["MUSTER_NODE_RANK"]),
        head=environ["MUSTER_HEAD"],
        port=int(environ["MUSTER_PORT"]),
        scratch=Path(environ["MUSTER_SCRATCH"]),
        job=environ["MUSTER_JOB"],
        hosts=tuple(environ.get("MUSTER_HOSTS", "").split()),
        end_time=read_end_time(environ),
    )


def read_end_time(environ: Mapping[str, str]) -> float | None:
    """When the job's time is up, in seconds since 1970 by the head node's clock; None without a limit."""
    text = environ.get("MUSTER_END_TIME", "")
    return float(text) if text.isdigit() else None


def read_attempt(environ: Mapping[str, str]) -> int | None:
    """The number of the attempt, or None where a person runs a verb by hand outside of one."""
    text = environ.get("MUSTER_ATTEMPT", "")
    return int(text) if text.isdigit() else None


def read_own_pulse(environ: Mapping[str, str]) -> Path | None:
    """The pulse of the rank that this process belongs to; None where no agent has started it."""
    scratch, local_rank = environ.get("MUSTER_SCRATCH"), environ.get("LOCAL_RANK", "")
    return pulse_file(Path(scratch), int(local_rank)) if scratch and local_rank.isdigit() else None


def read_rank_env(environ: Mapping[str, str]) -> RankEnv:
    """torch's variables of a rank, and its node's scratch folder.

    Raises:
        MissingEnvironmentError: names every variable that is missing or not a number.
    """
    numbers = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_PORT")
    _require(environ, RANK_NAMES, numbers=numbers)
    return RankEnv(
        rank=int(environ["RANK"]),
        local_rank=int(environ["LOCAL_RANK"]),
        world_size=int(environ["WORLD_SIZE"]),
        local_world_size=int(environ["LOCAL_WORLD_SIZE"]),
        node=int(environ["GROUP_RANK"]),
        master_addr=environ["MASTER_ADDR"],
        master_port=int(environ["MASTER_PORT"]),
        scratch=Path(environ["MUSTER_SCRATCH"]),
    )


def _require(environ: Mapping[str, str], names: Mapping[str, str], numbers: tuple[str, ...]) -> None:
    problems = [f"{name} is not set ({meaning})" for name, meaning in names.items() if not environ.get(name)]
    problems += [
        f"{name}={environ[name]!r} is not a number ({names[name]})"
        for name in numbers
        if environ.get(name) and not environ[name].isdigit()
    ]
    if problems:
        raise MissingEnvironmentError("; ".join(problems))
