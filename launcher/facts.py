"""Everything a plan needs to know of the outside, gathered once.

`gather` is the one place that looks at disk, environment, git and Slurm before a plan. It does not raise on what is
missing: it records it, so that the checks can say all problems at once.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import slurm.scripts
from conf.schema import ClusterKind, RunConfig
from launcher import facts_machine, snapshot
from launcher.content import run_name
from launcher.facts_data import BrokenRow, DataFile, gather_data
from launcher.facts_model import Hub, ModelFacts, gather_model
from launcher.facts_runs import ExistingRun, gather_runs
from launcher.facts_slurm import Partition, SlurmFacts, gather_slurm

__all__ = ["BrokenRow", "CodeFacts", "DataFile", "ExistingRun", "Facts", "ModelFacts", "Partition", "SlurmFacts"]

PACKAGE_ROOT = Path(__file__).absolute().parent.parent
BUILTIN_DATA = PACKAGE_ROOT / "conf" / "data"


@dataclass(frozen=True)
class CodeFacts:
    """Snapshots as they will lie in `code/`, and the static job script. `project` is None outside a git checkout."""

    muster: bytes = b""
    project: bytes | None = None
    body: bytes = b""
    commit: str = ""
    dirty: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The outside world at the time of a plan. Built by `gather`; tests build it by hand.

    `python` is the interpreter of the ranks (`cluster.python`, else the running one); `python_has` names the heavy
    packages found beside the running interpreter. `passed_env` are variables that travel with the run. `data_files`
    are by their key (`data.train_file`). `run_root` and `cwd` are absolute; `run_root_error` is why no run can be made
    there, or empty. `existing_runs` are those that have the run's name.
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


def gather(config: RunConfig, *, fetch: bool = True) -> Facts:
    """Look at everything a plan of `config` needs.

    With `fetch`, a hub model is fetched into the person's Hugging Face cache, so that the nodes can stay offline;
    without, a plan is made from what is known (see `launcher.facts_model.Hub`).
    """
    cwd = Path.cwd()
    environment = dict(os.environ)
    run_root = Path(cwd, Path(config.run_root).expanduser()).absolute()
    runs, run_root_error = gather_runs(run_root, run_name(config))
    hub_python = config.cluster.python if config.cluster.python and Path(config.cluster.python).is_file() else None
    passed, notes = facts_machine.passing(environment, config.cluster.pass_env)
    asks_for_gpus = config.cluster.kind is ClusterKind.local and config.cluster.gpus_per_node != 0
    return Facts(
        user=_user(),
        host=socket.gethostname(),
        cwd=str(cwd),
        run_root=str(run_root),
        run_root_error=run_root_error,
        cpu_count=facts_machine.cpu_count(),
        memory_gib=facts_machine.memory_gib(),
        gpus=facts_machine.local_gpus() if asks_for_gpus else (),
        python=config.cluster.python or sys.executable,
        python_has=facts_machine.heavy_packages(),
        versions=facts_machine.versions(),
        passed_env=passed,
        model=gather_model(config.model, cwd, Hub(hub_python or sys.executable, environment, fetch)),
        data_files=gather_data(config.data, cwd, BUILTIN_DATA),
        existing_runs=runs,
        slurm=gather_slurm(config.cluster) if config.cluster.kind is ClusterKind.slurm else None,
        code=_gather_code(cwd, run_root),
        notes=tuple(notes),
    )


def _gather_code(cwd: Path, run_root: Path) -> CodeFacts:
    project = snapshot.pack_project(cwd, run_root)
    return CodeFacts(
        muster=snapshot.pack_muster(PACKAGE_ROOT),
        project=project.archive,
        body=slurm.scripts.read_body(),
        commit=project.commit,
        dirty=project.dirty,
        notes=project.notes,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
