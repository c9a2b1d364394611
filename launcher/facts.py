"""Everything a plan needs to know of the outside, gathered once.

`gather` is the one place that looks at disk, environment, git, Slurm and clock-free machine facts before a plan. It does
not raise on what is missing: it records it, so that the checks can say all problems at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.facts_data import BrokenRow, DataFile
from launcher.facts_model import ModelFacts

__all__ = ["BrokenRow", "CodeFacts", "DataFile", "ExistingRun", "Facts", "ModelFacts", "Partition", "SlurmFacts"]


@dataclass(frozen=True)
class ExistingRun:
    """A run folder in `run_root`. `content` is the plan's configuration without free keys, flat: key → value."""

    run_id: str
    name: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """A partition of a Slurm cluster; limits are None where it has none."""

    name: str
    default: bool = False
    nodes: int | None = None
    max_nodes: int | None = None
    time_limit_s: int | None = None
    cpus_per_node: int | None = None
    mem_mib_per_node: int | None = None
    gres: str = ""


@dataclass(frozen=True)
class SlurmFacts:
    """What Slurm said. `error` holds its own words where it could not be asked."""

    slurm_conf: str | None = None
    version: str = ""
    partitions: tuple[Partition, ...] = ()
    max_array_size: int | None = None
    error: str = ""


@dataclass(frozen=True)
class CodeFacts:
    """Snapshots as they will lie in `code/`. `project` is None outside a git checkout; `notes` say what was left out."""

    muster: bytes = b""
    project: bytes | None = None
    body: bytes = b""
    commit: str = ""
    dirty: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The outside world at the time of a plan. Built by `gather`; tests build it by hand.

    `python` is the interpreter of the ranks (`cluster.python` resolved, or the running one); `python_has` names the
    heavy packages found beside the running interpreter. `passed_env` are variables that travel with the run.
    """

    user: str = ""
    host: str = ""
    cwd: str = ""
    run_root: str = ""
    run_root_error: str = ""
    cpu_count: int = 1
    memory_gib: float = 0.0
    gpus: tuple[str, ...] = ()
    python: str = ""
    python_has: frozenset[str] = frozenset()
    versions: Mapping[str, str] = field(default_factory=dict)
    passed_env: Mapping[str, str] = field(default_factory=dict)
    model: ModelFacts = field(default_factory=ModelFacts)
    data_files: Mapping[str, DataFile] = field(default_factory=dict)
    existing_runs: tuple[ExistingRun, ...] = ()
    slurm: SlurmFacts | None = None
    code: CodeFacts = field(default_factory=CodeFacts)
    notes: tuple[str, ...] = ()
