"""What a run is made of, part by part and flat: configuration, plan, data, code, versions, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.layout import RunFolder
from conf.outcome import read_outcome
from conf.record import Plan, read_plan
from launcher.plan.content import flatten, plain
from launcher.runs.read import Line, parse_line
from launcher.runs.reading import LOSS, SPEED
from launcher.runs.series import Series
from launcher.runs.standing import Standing
from launcher.why.timeline import AttemptStory

Facets = dict[str, dict[str, Any]]
CONFIGURATION, PLAN, DATA, CODE, VERSIONS, RESULTS = "configuration", "plan", "data", "code", "versions", "results"


def facets_of(folder: RunFolder) -> Facets:
    """All that is known before the first step of a run.

    Raises:
        FileNotFoundError, ValueError: run.json is missing or cannot be read.
    """
    plan = read_plan(folder.run_json)
    record = _object(folder.env_json)
    return {
        CONFIGURATION: flatten(plain(plan.config)),
        PLAN: plan_facts(plan),
        DATA: data_facts(_object(folder.data_json)),
        CODE: {
            "commit": record.get("commit"),
            "changed since the commit": record.get("dirty"),
            "model's commit": record.get("model_commit"),
            **{name: digest[:16] for name, digest in sorted((record.get("code") or {}).items())},
        },
        VERSIONS: {
            **(record.get("versions") or {}),
            **{name: record.get(name) for name in ("python", "slurm", "host", "user")},
        },
    }


def plan_facts(plan: Plan) -> dict[str, Any]:
    """What was derived from the configuration."""
    batch, topology = plan.layout.batch, plan.topology
    need = plan.memory.device or plan.memory.host if plan.memory else None
    return {
        "model type": plan.model_type,
        "parameters": plan.parameters,
        "trained parameters": plan.trainable_parameters,
        "nodes": topology.nodes,
        "ranks": topology.world_size,
        "device": topology.device.value,
        "threads of a rank": topology.threads_per_rank,
        "start": topology.start,
        "global batch": batch.global_batch_size,
        "micro batch": batch.micro_batch_size,
        "accumulation": batch.accumulation,
        "packing": plan.packing,
        "expected steps": plan.expected_steps,
        "expected memory in bytes": need.peak.likely if need else None,
        **{f"deepspeed.{key}": value for key, value in flatten(plan.layout.deepspeed).items()},
    }


def data_facts(prepared: Line) -> dict[str, Any]:
    """Documents, tokens and contents of each split, by what the data step wrote; nothing before it."""
    found: dict[str, Any] = {}
    for name, split in (prepared.get("splits") or {}).items():
        for amount in ("documents", "tokens", "targets", "longest"):
            found[f"{name}.{amount}"] = split.get(amount)
        for place, part in enumerate(split.get("parts") or []):
            which = part.get("name") or str(place)
            found[f"{name}.{which}.source"] = part.get("source")
            found[f"{name}.{which}.sha256"] = (part.get("digest") or "")[:16] or None
    if prepared:
        found["prepared data"] = prepared.get("digest")
        found["vocabulary"] = prepared.get("vocabulary")
    return found


def result_facts(standing: Standing, series: Series, stories: list[AttemptStory]) -> dict[str, Any]:
    """How it went."""
    outcome = read_outcome(standing.folder.outcome)
    points, speeds = series.points.get(LOSS, []), sorted(value for _, value in series.points.get(SPEED, []))
    spans = [story.ended - story.started for story in stories if story.ended and story.started]
    return {
        "state": standing.state.value,
        "reason": standing.reason,
        "step": standing.step,
        "attempts": len(stories),
        "seconds in attempts": round(sum(spans), 1),
        "train/loss, first": points[0][1] if points else None,
        "train/loss, last": points[-1][1] if points else None,
        "tokens a second, median": round(speeds[len(speeds) // 2], 1) if speeds else None,
        **(dict(sorted(outcome.metrics.items())) if outcome else {}),
        "best step": outcome.best_step if outcome else None,
        "export verified": outcome.export_verified if outcome else None,
    }


def _object(path: Path) -> Line:
    try:
        return parse_line(path.read_bytes()) or {}
    except OSError:
        return {}


def shown(value: Any) -> str:
    """A value in a table: as JSON, numbers with six digits, nothing as nothing."""
    if value is None or value == "":
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
