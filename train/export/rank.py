"""One rank of an export after training: a checkpoint back into the engine, and its Hugging Face model out of it."""

from __future__ import annotations

from dataclasses import replace

from conf.layout import RunFolder
from conf.outcome import Cause, read_outcome, write_outcome
from conf.record import read_plan
from train import distributed
from train.assembly import assemble
from train.checkpoint import checkpoint
from train.data.prepared import read_prepared
from train.export.export import ExportResult
from train.export.trained import export_trained
from train.metrics.journal import Journal
from train.node.limits import collective_timeout_s
from train.rank import layout_of


class ExportError(Exception):
    """There is nothing to export, or what was written does not read back as it should."""

    cause = Cause.checkpoint


def main(folder: RunFolder, attempt: int, step: int | None) -> None:
    """Export the checkpoint of `step`, or that of the best model, or the newest that verifies; a collective.

    Raises:
        ExportError: there is no checkpoint, or the export's logits are not the engine's.
    """
    plan = read_plan(folder.run_json)
    config = plan.config
    world = distributed.join(plan.topology, collective_timeout_s(config.health), config.train.deterministic)
    journal = Journal(folder, attempt, active=world.first)
    journal.phase("load")
    layout = layout_of(plan, world)

    def doing(text: str) -> None:
        journal.phase("load", text=text)

    engine = assemble(plan, layout, folder, read_prepared(folder), world, doing=doing).engine
    doing("the checkpoint")
    if step is None:
        step = world.said_by_first(_best_step(folder) if world.first else None)
    found = (
        checkpoint.newest_valid(folder, world, journal.warning)
        if step is None
        else checkpoint.at_step(folder, world, step)
    )
    if found is None:
        raise ExportError(f"{folder.checkpoints} has no checkpoint")
    checkpoint.load(engine, found, world, journal)
    journal.phase("export")
    result = export_trained(
        engine, world, plan, layout, folder, found.step, lambda text: journal.phase("export", text=text)
    )
    journal.event(
        "exported",
        step=found.step,
        path=str(result.path) if result.path else None,
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


def _best_step(folder: RunFolder) -> int | None:
    """The step of the best model where that is what the run hands back and its checkpoint is there."""
    outcome = read_outcome(folder.outcome)
    best = None if outcome is None else outcome.best_step
    return best if best is not None and folder.checkpoint(best).is_dir() else None


def _note(folder: RunFolder, step: int, result: ExportResult) -> None:
    """The run's outcome says of the model it hands back whether the export is verified."""
    outcome = read_outcome(folder.outcome)
    if outcome is not None and step == (outcome.step if outcome.best_step is None else outcome.best_step):
        write_outcome(folder.outcome, replace(outcome, export_verified=result.verified))
