"""What W&B is told of a run before its first metric: names, and as its config all that decides it, without secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from conf.estimate import Need
from conf.layout import RunFolder
from conf.record import Plan
from train.tracking.redaction import redacted

GIB = 1 << 30
OF_JOB = ("job", "host", "time")
"""What of job.json is shown: the rest is how processes of a job know each other."""


def run_arguments(plan: Plan, folder: RunFolder, attempt: int) -> dict[str, Any]:
    """What wandb.init is told of a run, but for mode and settings: the same id in every attempt, no secrets."""
    tracking = plan.config.tracking
    return {
        "id": plan.run_id,
        "name": tracking.run_name or plan.run_id,
        "project": tracking.project,
        "entity": tracking.entity,
        "tags": list(tracking.tags),
        "group": tracking.group,
        "job_type": tracking.job_type,
        "dir": str(folder.path),
        "config": run_config(plan, folder, attempt),
    }


def run_config(plan: Plan, folder: RunFolder, attempt: int) -> dict[str, Any]:
    """The configuration by its groups; under `muster` the plan, DeepSpeed's JSON, versions, code and the job."""
    batch, model = plan.layout.batch, plan.parameters
    muster = {
        "run_id": plan.run_id,
        "run_dir": plan.run_dir,
        "attempt": attempt,
        "world_size": plan.topology.world_size,
        "topology": msgspec.to_builtins(plan.topology),
        "batch": msgspec.to_builtins(batch),
        "model_type": plan.model_type,
        "parameters": model,
        "trainable_parameters": plan.trainable_parameters,
        "packing": plan.packing,
        "expected_steps": plan.expected_steps,
        "continuation": plan.continuation.value,
        "deepspeed": plan.layout.deepspeed,
        "memory": predicted(plan),
        "time": predicted_time(plan),
        "notes": [*plan.notes, *plan.warnings],
        "environment": _read(folder.env_json),
        "job": _job(folder, attempt),
    }
    config = msgspec.to_builtins(plan.config) | {"muster": muster, "model/num_parameters": model}
    return dict(redacted(config, os.environ))


def predicted(plan: Plan) -> dict[str, float]:
    """Memory that the plan expects, in GiB: of a rank's device, of a node's host, of the disk."""
    estimate = plan.memory
    if estimate is None:
        return {}
    needs: dict[str, Need | None] = {"gpu": estimate.device, "host": estimate.host}
    values: dict[str, float] = {}
    for name, need in needs.items():
        if need is not None and need.moments:
            sums = {"": need.peak.likely, "_low": need.low, "_high": need.high}
            values |= {f"{name}_gib{end}": round(amount / GIB, 3) for end, amount in sums.items()}
    if estimate.disk is not None:
        values["disk_gib"] = round(estimate.disk.likely / GIB, 3)
    return values


def predicted_time(plan: Plan) -> dict[str, float]:
    """Time that the plan expects: seconds of a step, useful tokens a second, hours of all GPUs or nodes."""
    time = plan.time
    if time is None:
        return {}
    values = {"step_s": time.step.likely, "step_s_low": time.step.low, "step_s_high": time.step.high}
    values["tokens_per_second"] = time.tokens_per_second
    if time.device_hours is not None:
        values[f"{time.kind.lower()}_hours"] = time.device_hours.likely
    return {name: round(value, 6) for name, value in values.items()}


def _job(folder: RunFolder, attempt: int) -> dict[str, Any]:
    """The scheduler's job of an attempt: id, host, hosts of its nodes."""
    job = {name: value for name, value in _read(folder.attempt(attempt).job).items() if name in OF_JOB}
    try:
        hosts = folder.attempt(attempt).hosts.read_text(errors="replace").split()
    except OSError:
        hosts = []
    return job | ({"hosts": hosts} if hosts else {})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
