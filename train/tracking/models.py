"""Models of a run as W&B artifacts: files, or where they are with Muster's own checksums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.layout import EXPORT_RECORD, MANIFEST, RunFolder
from conf.outcome import Outcome
from conf.record import Plan
from conf.schema import ArtifactFiles
from train.tracking import sdk

MODEL = "model"


def log_export(run: Any, plan: Plan, folder: RunFolder, outcome: Outcome) -> None:
    """The verified export, and the adapter where there is one; a version that is there already is no new one."""
    step = outcome.best_step or outcome.step
    metadata = {**outcome.metrics, "step": step, "verified": True}
    for path, what in ((folder.export, "model"), (folder.adapter, "adapter")):
        if path.is_dir():
            _log(run, plan, path, f"{what}-{plan.wandb_id}", ["final_model", f"step-{step}"], metadata, stays=True)


def log_checkpoint(run: Any, plan: Plan, folder: RunFolder, step: int) -> None:
    """A checkpoint with optimizer states, as `muster resume` reads it; nothing where it was pruned meanwhile."""
    path = folder.checkpoint(step)
    if folder.manifest(step).exists():
        aliases = [f"checkpoint_global_step_{step}"]
        _log(run, plan, path, f"checkpoint-{plan.wandb_id}", aliases, {"step": step}, stays=False)


def _log(
    run: Any, plan: Plan, path: Path, name: str, aliases: list[str], metadata: dict[str, Any], stays: bool
) -> None:
    """Files that do not stay as long as sending takes are copied first: retention may remove a checkpoint."""
    about = {"path": str(path), "model_type": plan.model_type, "num_parameters": plan.parameters}
    made = sdk.artifact(name, MODEL, **metadata, **about, files=_checksums(path))
    if plan.config.tracking.artifact is ArtifactFiles.reference:
        made.add_reference(path.as_uri(), checksum=False)
    else:
        made.add_dir(str(path), skip_cache=True, policy="immutable" if stays else "mutable")
    run.log_artifact(made, aliases=aliases)


def _checksums(path: Path) -> dict[str, str]:
    """SHA-256 by file, as Muster wrote them down beside the files."""
    for name in (MANIFEST, EXPORT_RECORD):
        try:
            content = json.loads((path / name).read_bytes())
        except (OSError, ValueError):
            continue
        files = content.get("files") if isinstance(content, dict) else None
        if isinstance(files, list) and all(isinstance(file, dict) and "sha256" in file for file in files):
            return {str(file.get("name")): str(file["sha256"]) for file in files}
    return {}
