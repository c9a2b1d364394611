"""One rank of an export after training: a checkpoint back into the engine, and its Hugging Face model out of it."""

from __future__ import annotations

from dataclasses import replace

from conf.layout import RunFolder
from conf.outcome import Cause, read_outcome, write_outcome
from conf.record import read_plan
from train import distributed
from train.checkpoint import checkpoint
from train.data.prepared import read_prepared
from train.engine import Engine
from train.export.export import ExportResult, export
from train.metrics.journal import Journal
from train.model.model import load_model
from train.model.optimizer import make_optimizer
from train.rank import layout_of


class ExportError(Exception):
    """There is nothing to export, or what was written does not read back as it should."""

    cause = Cause.checkpoint


def main(folder: RunFolder, attempt: int, step: int | None) -> None:
    """Export the checkpoint of `step`, or the newest that verifies; a collective of all ranks.

    Raises:
        ExportError: there is no checkpoint, or the export's logits are not the engine's.
    """
    plan = read_plan(folder.run_json)
    world = distributed.join(plan.topology, plan.config.train.deterministic)
    journal = Journal(folder, attempt, active=world.first)
    journal.phase("load")
    layout = layout_of(plan, world)
    model = load_model(plan, layout, folder, read_prepared(folder).labels)
    optimizer, _ = make_optimizer(model, plan.config.optim, plan.config.parallel, world.device, world.all_true)
    engine = Engine(model, optimizer, layout.deepspeed, world.device)

    def warn(text: str) -> None:
        journal.event("warning", text=text)

    found = checkpoint.newest_valid(folder, world, warn) if step is None else checkpoint.at_step(folder, world, step)
    if found is None:
        raise ExportError(f"{folder.checkpoints} has no checkpoint")
    checkpoint.load(engine, found)
    journal.phase("export")
    largest = int(plan.config.checkpoint.max_shard_size_gb * 1e9)
    result = export(engine, world, folder, largest, plan.run_id, found.step)
    journal.event(
        "exported",
        step=found.step,
        path=str(folder.export),
        verified=result.verified,
        max_abs_diff=result.max_abs_diff,
        seconds=round(result.seconds, 3),
        bytes=result.bytes,
    )
    if world.first:
        _note(folder, found.step, result)
    engine.close()
    distributed.leave()
    if not result.verified:
        raise ExportError(f"the export of step {found.step} is not verified: {result.reason}")


def _note(folder: RunFolder, step: int, result: ExportResult) -> None:
    """The run's outcome says of its last step whether the export is verified."""
    outcome = read_outcome(folder.outcome)
    if outcome is not None and outcome.step == step:
        write_outcome(folder.outcome, replace(outcome, export_verified=result.verified))
