"""How a run, an attempt or a rank ended: the files that carry meaning where exit codes cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Optional, TypeVar

import msgspec

from conf.files import write_atomically

T = TypeVar("T")


class State(Enum):
    """State of a run as its own files tell it. `queued` and `running` are also Slurm's to say."""

    prepared = "prepared"
    queued = "queued"
    running = "running"
    done = "done"
    stopped = "stopped"
    time_limit = "time_limit"
    preempted = "preempted"
    cancelled = "cancelled"
    failed = "failed"


class StopReason(Enum):
    """The word in `STOP`."""

    stopped = "stopped"
    time_limit = "time_limit"
    preempted = "preempted"
    cancelled = "cancelled"


class Cause(Enum):
    """Class of a failure, or of an end that somebody else decided. What to do about each: `launcher.why.advice`."""

    user_code = "user_code"
    config = "config"
    data = "data"
    import_error = "import"
    hub = "hub"
    nan = "nan"
    checkpoint = "checkpoint"
    oom = "oom"
    cuda_oom = "cuda_oom"
    shm_full = "shm_full"
    disk_full = "disk_full"
    file_system = "file_system"
    killed = "killed"
    hang = "hang"
    nccl_timeout = "nccl_timeout"
    nccl = "nccl"
    gpu = "gpu"
    lost_peer = "lost_peer"
    bad_node = "bad_node"
    node_fail = "node_fail"
    port = "port"
    preempted = "preempted"
    time_limit = "time_limit"
    cancelled = "cancelled"
    unknown = "unknown"


@dataclass(frozen=True)
class Failure:
    """What went wrong in one rank, or (rank -1) in an agent or its data step, in its own words.

    `origin` is another rank whose failure this one only repeats, since all ranks agreed to end with it.
    """

    rank: int
    node: int
    host: str
    time: float
    cause: Cause
    message: str
    traceback: str = ""
    pid: int = 0
    origin: Optional[int] = None


@dataclass(frozen=True)
class RankExit:
    """How one rank's process ended, as its agent saw it with waitid.

    `ended_by_agent`: the agent ended it because another rank had failed or it was told to end, so it is no cause.
    """

    rank: int
    local_rank: int
    pid: int
    time: float
    exit_status: Optional[int] = None
    signal: Optional[int] = None
    ended_by_agent: bool = False


@dataclass(frozen=True)
class AgentReport:
    """What a node's agent saw of one attempt.

    `met` is when all agents had met, by this node's clock: one moment for all of them, so that their clocks can be
    compared. `kernel` are the kernel's lines of that time on memory, GPUs and crashes, where it may be read.
    `silent` are nodes of which this one heard nothing any more.
    """

    node: int
    host: str
    started: float
    ended: float
    start: str
    exits: list[RankExit] = field(default_factory=list)
    failure: Optional[Failure] = None
    met: Optional[float] = None
    kernel: list[str] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """`outcome.json`. `step` is the last step whose weights are saved or exported.

    `metrics` are the last values of each evaluated split, such as `eval/loss` and `test/accuracy`: of the best model
    where that is what the run hands back, whose step is then `best_step`.
    """

    state: State
    reason: str
    step: int
    attempt: int
    time: float
    failure: Optional[Failure] = None
    checkpoint: Optional[str] = None
    export_verified: Optional[bool] = None
    metrics: dict[str, float] = field(default_factory=dict)
    best_step: Optional[int] = None


def write_record(path: Path, record: Outcome | Failure | AgentReport) -> None:
    """Write a record atomically, as readable as its folder (0700 gives 0600)."""
    mode = path.parent.stat().st_mode & 0o666
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n", mode)


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write `outcome.json` atomically."""
    write_record(path, outcome)


def read_outcome(path: Path) -> Optional[Outcome]:
    """The outcome, or None where none was written yet.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no outcome: {error}") from error


def read_records(folder: Path, kind: type[T]) -> list[T]:
    """The records of a kind in a folder, by name; one that cannot be read is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=kind))
        except (OSError, msgspec.DecodeError, RecursionError):
            continue
    return found


def ask_to_stop(path: Path, reason: StopReason) -> None:
    """Write `STOP`, unless it is there: the first word stays."""
    if not path.exists():
        write_atomically(path, f"{reason.value}\n".encode(), path.parent.stat().st_mode & 0o666)


def read_stop(path: Path) -> Optional[StopReason]:
    """The word in `STOP`, or None where there is none; a word we do not know counts as `stopped`."""
    try:
        word = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    return next((reason for reason in StopReason if reason.value == word), StopReason.stopped)
