"""Everything a plan knows of the outside, as values. `launcher.facts.gather` fills them in; tests write their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conf.measured import Measured
from launcher.facts.architecture import Made
from launcher.facts.data import DataFile
from launcher.facts.model import ModelFacts
from launcher.facts.nodes import NodeFacts
from launcher.facts.runs import ExistingRun
from launcher.facts.script import ScriptFacts
from launcher.facts.slurm import SlurmFacts
from launcher.facts.speed import MeasuredSave
from launcher.facts.survey import BrokenRow

__all__ = [
    "BrokenRow",
    "CodeFacts",
    "DataFile",
    "ExistingRun",
    "Facts",
    "ModelFacts",
    "NodeFacts",
    "ScriptFacts",
    "SlurmFacts",
]


@dataclass(frozen=True)
class CodeFacts:
    """Snapshots as they will lie in `code/`, and the static job script.

    `project` is None outside a git checkout; `root` is the absolute path of its top.
    """

    muster: bytes = b""
    project: bytes | None = None
    root: str = ""
    body: bytes = b""
    commit: str = ""
    dirty: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The outside world at the time of a plan.

    `python` is the interpreter of the ranks (`cluster.python`, else the running one); `python_has` names the heavy
    packages found beside the running interpreter. `passed_env` are variables that travel with the run. `data_files`
    are by their key (`data.train_file`). `run_root` and `cwd` are absolute; `run_root_error` is why no run can be made
    there, or empty; `free_bytes` is what is free there. `existing_runs` are those that have the run's name, `saves` how
    fast runs there have saved. `measurements` is the folder of the ledger in which runs leave what they `measured`.
    `made` are the weights of an architecture that no formula knows. `chat_template` is the
    text of `data.chat_template`, read where that names a file. A person's own program (`script`) has no model and no
    data here.
    """

    user: str = ""
    host: str = ""
    cwd: str = ""
    run_root: str = ""
    run_root_error: str = ""
    cpu_count: int = 1
    memory_gib: float = 0.0
    free_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    python: str = ""
    python_has: frozenset[str] = frozenset()
    versions: Mapping[str, str] = field(default_factory=dict)
    passed_env: Mapping[str, str] = field(default_factory=dict)
    model: ModelFacts = field(default_factory=ModelFacts)
    made: Made = field(default_factory=Made)
    data_files: Mapping[str, DataFile] = field(default_factory=dict)
    existing_runs: tuple[ExistingRun, ...] = ()
    saves: tuple[MeasuredSave, ...] = ()
    measurements: str = ""
    measured: tuple[Measured, ...] = ()
    chat_template: str | None = None
    slurm: SlurmFacts | None = None
    nodes: NodeFacts = field(default_factory=NodeFacts)
    code: CodeFacts = field(default_factory=CodeFacts)
    script: ScriptFacts = field(default_factory=ScriptFacts)
    notes: tuple[str, ...] = ()
