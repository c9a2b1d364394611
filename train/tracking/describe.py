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
ELSEWHERE = ("config", "layouts", "memory", "schema_version")
"""What of a plan is no part of its own: the configuration's groups, or in fewer figures."""
OF_JOB = ("job", "host", "time")
"""What of job.json is shown: the rest is how processes of a job know each other."""


def run_arguments(plan: Plan, folder: RunFolder, attempt: int) -> dict[str, Any]:
    """What wandb.init is told of a run, but for mode and settings: the same id in every attempt, no secrets."""
    tracking = plan.config.tracking
    return {
        "id": plan.wandb_id,
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
    muster = {name: value for name, value in msgspec.to_builtins(plan, str_keys=True).items() if name not in ELSEWHERE}
    muster |= {
        "attempt": attempt,
        "world_size": plan.topology.world_size,
        "batch": msgspec.to_builtins(plan.layout.batch),
        "deepspeed": plan.layout.deepspeed,
        "predicted": predicted(plan),
        "environment": _read(folder.env_json),
        "job": _job(folder, attempt),
    }
    config = msgspec.to_builtins(plan.config) | {"muster": muster, "model/num_parameters": plan.parameters}
    return dict(redacted(config, os.environ))


def predicted(plan: Plan) -> dict[str, float]:
    """What the plan expects, by the names of what is measured: memory of a rank's device and a node's host, a step."""
    values: dict[str, float] = {}
    estimate, forecast = plan.memory, plan.time
    needs: dict[str, Need | None] = {}
    if estimate is not None:
        needs = {"gpu": estimate.device, "host": estimate.host}
    for name, need in needs.items():
        if need is not None and need.moments:
            sums = {"": need.peak.likely, "_low": need.low, "_high": need.high}
            values |= {f"mem/predicted_{name}_gib{end}": round(amount / GIB, 3) for end, amount in sums.items()}
    if forecast is not None:
        values["perf/predicted_step_time_s"] = forecast.step.likely
        values["perf/predicted_tokens_per_second"] = forecast.tokens_per_second
        if forecast.mfu is not None:
            values["perf/predicted_mfu"] = forecast.mfu
    return values


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
