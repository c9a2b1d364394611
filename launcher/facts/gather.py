"""The one place that looks at disk, environment, git and Slurm before a plan: `gather(config) → Facts`.

It does not raise on what is missing: it records it, so that the checks can say all problems at once.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import slurm.scripts
from conf.measured import DEFAULT_FOLDER, read_measured
from conf.schema import ClusterKind, RunConfig, TaskName
from launcher.facts import machine as facts_machine
from launcher.facts.architecture import Made, Workshop, cache_folder, made_shape
from launcher.facts.data import DataFile, gather_data
from launcher.facts.facts import CodeFacts, Facts
from launcher.facts.hub import Hub
from launcher.facts.model import ModelFacts, gather_model
from launcher.facts.nodes import NodeFacts, gather_nodes
from launcher.facts.runs import gather_runs
from launcher.facts.script import ScriptFacts, gather_script
from launcher.facts.slurm import SlurmFacts, gather_slurm
from launcher.facts.speed import gather_saves
from launcher.plan.content import run_name
from launcher.plan.shapes.known import UNKNOWN_LABELS, model_config, shape_of
from launcher.render import snapshot

PACKAGE_ROOT = Path(__file__).absolute().parents[2]
BUILTIN_DATA = PACKAGE_ROOT / "conf" / "data"
LARGEST_TEMPLATE = 1 << 20

T = TypeVar("T")


def gather(config: RunConfig, *, fetch: bool = True) -> Facts:
    """Look at everything a plan of `config` needs.

    With `fetch`, a hub model is fetched into the person's Hugging Face cache, so that the nodes can stay offline;
    without, a plan is made from what is known (see `launcher.facts.hub.Hub`).
    """
    return Gatherer(fetch=fetch)(config)


def gather_model_alone(config: RunConfig) -> Facts:
    """What the config.json of the model says, and nothing else: for looking at the memory of a run that is there."""
    hub = _hub(config, dict(os.environ), fetch=False)
    return Facts(model=gather_model(config.model, Path.cwd(), hub))


class Gatherer:
    """`gather` for the configurations of a sweep: what several of them ask for is looked at once."""

    def __init__(self, *, fetch: bool = True, remember: bool = True):
        """`remember`: the person's cache folder may be read and written."""
        self._fetch, self._remember = fetch, remember
        self._seen: dict[tuple[str, str], Any] = {}

    def __call__(self, config: RunConfig) -> Facts:
        """The facts for one configuration."""
        cwd = Path.cwd()
        environment = dict(os.environ)
        run_root = Path(cwd, Path(config.run_root).expanduser()).absolute()
        named = (run_root, run_name(config))
        runs, run_root_error = self._once("runs", named, lambda: gather_runs(*named))
        hub = self._once("hub", config.cluster.python, lambda: _hub(config, environment, self._fetch))
        passing = facts_machine.passing
        passed, notes = self._once(
            "env", config.cluster.pass_env, lambda: passing(environment, config.cluster.pass_env)
        )
        asks_for_gpus = config.cluster.kind is ClusterKind.local and config.cluster.gpus_per_node != 0
        slurm, nodes = self._site(config, cwd)
        code = self._once("code", run_root, lambda: _gather_code(cwd, run_root))
        model, data_files, script = self._work(config, cwd, hub, code)
        versions = self._once("versions", "", facts_machine.versions)
        measurements = measurements_folder(config.cluster.measurements, cwd, environment)
        return Facts(
            user=_user(),
            host=socket.gethostname(),
            cwd=str(cwd),
            run_root=str(run_root),
            run_root_error=run_root_error,
            cpu_count=facts_machine.cpu_count(),
            memory_gib=facts_machine.memory_gib(),
            free_bytes=facts_machine.free_bytes(run_root),
            gpus=self._once("gpus", "", facts_machine.local_gpus) if asks_for_gpus else (),
            python=config.cluster.python or sys.executable,
            python_has=self._once("packages", "", facts_machine.heavy_packages),
            versions=versions,
            passed_env=passed,
            model=model,
            data_files=data_files,
            made=self._weights(config, model, hub, versions.get("transformers", "")),
            existing_runs=runs,
            saves=self._once("saves", run_root, lambda: gather_saves(run_root)) if slurm is not None else (),
            measurements=str(measurements),
            measured=self._once("measured", measurements, lambda: read_measured(measurements)),
            chat_template=_template(config.data.chat_template, cwd),
            slurm=slurm,
            nodes=nodes,
            code=code,
            script=script,
            notes=tuple(notes),
        )

    def _site(self, config: RunConfig, cwd: Path) -> tuple[SlurmFacts | None, NodeFacts]:
        """What Slurm says, and which of its nodes are known to be bad."""
        cluster = config.cluster
        if cluster.kind is not ClusterKind.slurm:
            return None, NodeFacts()
        slurm = self._once("slurm", cluster, lambda: gather_slurm(cluster))
        return slurm, self._once("nodes", cluster, lambda: gather_nodes(cluster, slurm, cwd))

    def _work(
        self, config: RunConfig, cwd: Path, hub: Hub, code: CodeFacts
    ) -> tuple[ModelFacts, dict[str, DataFile], ScriptFacts]:
        """What is trained and on what: a model and data, or a program of a person's own."""
        if config.task.name is TaskName.script:
            own = config.train.entrypoint or ""
            script = self._once("script", own, lambda: gather_script(own, cwd, code.root, code.project))
            return ModelFacts(), {}, script
        python = config.cluster.python
        model = self._once("model", (config.model, python), lambda: gather_model(config.model, cwd, hub))
        files = self._once("data", (config.data, python), lambda: gather_data(config.data, cwd, BUILTIN_DATA, hub))
        return model, files, ScriptFacts()

    def _weights(self, config: RunConfig, model: ModelFacts, hub: Hub, transformers: str) -> Made:
        """The weights of a model that no formula knows."""
        environment = dict(os.environ)
        remembered = cache_folder(environment) if self._remember else None
        workshop = Workshop(hub.python, environment, transformers, remembered)
        asked = config.model, config.task, config.cluster.python
        return self._once("made", asked, lambda: _made(config, model, workshop))

    def _once(self, what: str, asked: object, look: Callable[[], T]) -> T:
        """What `look` sees, which depends on `asked` alone."""
        key = (what, repr(asked))
        if key not in self._seen:
            self._seen[key] = look()
        seen: T = self._seen[key]
        return seen


def _made(config: RunConfig, model: ModelFacts, workshop: Workshop) -> Made:
    """The weights of a model that no formula knows."""
    content = model_config(config, model.config)
    labels = len(config.task.labels) or UNKNOWN_LABELS
    if model.error or not content.get("model_type") or shape_of(content, config.task.name, labels) is not None:
        return Made()
    return made_shape(content, config.task.name, labels, workshop)


def _hub(config: RunConfig, environment: dict[str, str], fetch: bool) -> Hub:
    """The ranks' Python where it can be started here, else the running one."""
    given = config.cluster.python
    return Hub(given if given and Path(given).is_file() else sys.executable, environment, fetch)


def _gather_code(cwd: Path, run_root: Path) -> CodeFacts:
    project = snapshot.pack_project(cwd, run_root)
    return CodeFacts(
        muster=snapshot.pack_muster(PACKAGE_ROOT),
        project=project.archive,
        root=project.root,
        body=slurm.scripts.read_body(),
        commit=project.commit,
        dirty=project.dirty,
        notes=project.notes,
    )


def measurements_folder(given: str | None, cwd: Path, environment: Mapping[str, str]) -> Path:
    """The folder of the ledger of measured runs: `cluster.measurements`, else one of the person's own."""
    if given:
        return Path(cwd, Path(given).expanduser()).absolute()
    states = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(states).expanduser().absolute() / DEFAULT_FOLDER


def _template(given: str | None, cwd: Path) -> str | None:
    """A chat template as text; one that names a file is read."""
    if given is None or "{" in given or "\n" in given:
        return given
    path = Path(cwd, Path(given).expanduser())
    try:
        return path.read_text()[:LARGEST_TEMPLATE] if path.is_file() else given
    except (OSError, ValueError):
        return given


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
