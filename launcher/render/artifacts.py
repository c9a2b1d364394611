"""`render(plan, facts) → {relative path: bytes}`: every file of a fresh run folder. Pure: same plan, same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from conf.layout import RunFolder
from conf.record import Plan, encode_plan
from conf.schema import ClusterKind
from launcher.facts.facts import Facts
from launcher.plan.content import content_hash, plain
from launcher.plan.nodes import exclude
from launcher.plan.remarks import choice_notes
from launcher.render import job, side_jobs

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's where PyYAML was built with it: ten times as fast, which a sweep of a thousand points feels."""


def render(plan: Plan, facts: Facts) -> dict[str, bytes]:
    """All files by their path in the run folder, in a fixed order.

    Raises:
        ValueError: a value cannot be written into a job script (the checks name it before).
    """
    folder = RunFolder(Path(plan.run_dir))
    files: dict[Path, bytes] = {
        folder.run_json: encode_plan(plan).encode(),
        folder.config_yaml: config_yaml(plan).encode(),
        folder.env_json: _json(environment_record(plan, facts)),
        folder.muster_zip: facts.code.muster,
        folder.job.body: facts.code.body,
        folder.job.allow: job.allow_lines(plan.config.cluster).encode(),
        folder.job.env: job.environment_lines(plan, facts).encode(),
        folder.job.setup: job.setup_script(plan.config.cluster).encode(),
        folder.job.srun: job.srun_lines(plan, facts).encode(),
        folder.job.python: job.python_lines(plan).encode(),
        folder.job.settings: job.settings_lines(plan, facts).encode(),
    }
    if plan.script is None:
        files[folder.ds_config] = _json(plan.layout.deepspeed)
    if facts.code.project is not None:
        files[folder.project_zip] = facts.code.project
    if plan.config.cluster.kind is ClusterKind.slurm:
        left_out = exclude(plan.config, facts)
        files[folder.job_sbatch] = job.batch_script(plan, exclude=left_out).encode()
        if plan.script is None:
            files[folder.job.export_sbatch] = side_jobs.export_script(plan, left_out).encode()
        if side_jobs.prepares_before(plan, facts):
            files[folder.job.prepare_sbatch] = side_jobs.prepare_script(plan).encode()
    else:
        files[folder.job_sh] = job.local_script(plan).encode()
    named = {path.relative_to(folder.path).as_posix(): content for path, content in files.items()}
    return dict(sorted(named.items()))


def config_yaml(plan: Plan) -> str:
    """The resolved configuration for people; Hydra can compose it again. Its head says what was chosen by whom."""
    text: str = yaml.dump(plain(plan.config), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in choice_notes(plan.choice)) + text


def environment_record(plan: Plan, facts: Facts) -> dict[str, Any]:
    """`env.json`: who made the run, from which code, with which versions."""
    archives = {"muster.zip": facts.code.muster, "project.zip": facts.code.project}
    return {
        "user": facts.user,
        "host": facts.host,
        "cwd": facts.cwd,
        "commit": facts.code.commit,
        "dirty": facts.code.dirty,
        "python": facts.python,
        "versions": dict(sorted(facts.versions.items())),
        "slurm": facts.slurm.version if facts.slurm else "",
        "model_commit": facts.model.commit,
        "content": content_hash(plan.config),
        "code": {
            name: hashlib.sha256(content).hexdigest() for name, content in archives.items() if content is not None
        },
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
