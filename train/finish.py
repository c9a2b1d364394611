"""What comes after the last step: checkpoint, evaluation, export, and the outcome in any case."""

from __future__ import annotations

import shutil
import socket
import time

from conf.outcome import Cause, Failure, Outcome, State, write_outcome
from train.checkpoint.saving import best_step, save_now, wait
from train.evaluation import turns
from train.evaluation.hand_back import load_best
from train.export.export import ExportResult
from train.export.proof import free_bytes
from train.export.samples import write_labelled_samples, write_samples
from train.export.trained import export_trained
from train.methods.adapter import base_model
from train.model.model import weights_at_start
from train.model.parameters import parameter_count
from train.stop import StopAskedError
from train.tasks.seq_cls import SequenceClassification
from train.training import Ending, Training, stopped


def finish(training: Training, ending: Ending) -> Ending:
    """Save, and after the last step evaluate and export; rank 0 writes outcome.json. A collective."""
    exported = None
    if ending.state not in (State.failed, State.cancelled):
        training.truth.finish()
    if ending.state is State.failed:
        wait(training)
    elif ending.state is not State.cancelled:
        save_now(training)
    training.background.close()  # evaluation and export may need its memory
    if ending.state is State.done:
        ending = evaluated(training, ending)
    if ending.state is State.done and training.plan.export_at_end:
        try:
            exported = exported_model(training)
        except StopAskedError as asked:
            ending = stopped(ending.step, asked.reason)
            forget_export(training)
    write_down(training, ending, exported)
    return ending


def evaluated(training: Training, ending: Ending) -> Ending:
    """Evaluate the validation set, and the model that is handed back on the test set.

    The ending becomes a stop where one came between.
    """
    if training.progress.course.step != training.progress.step:
        turns.validate(training)
    reason = training.stop.asked_now()
    if reason is not None:
        return stopped(ending.step, reason)
    load_best(training)
    turns.test(training)
    reason = training.stop.asked_now()
    return ending if reason is None else stopped(ending.step, reason)


def exported_model(training: Training) -> ExportResult:
    """Write and verify the Hugging Face model; one that does not verify is said, and does not fail the run.

    Raises:
        StopAskedError: a stop came; the export begins again after it.
    """

    def report(text: str) -> None:
        training.journal.phase("export", text=text)

    training.journal.phase("export")
    training.stop.leave_if_asked()
    result = export_trained(
        training.engine,
        training.world,
        training.plan,
        training.layout,
        training.folder,
        training.model_step,
        report,
        training.stop.leave_if_asked,
    )
    if not result.verified:
        training.journal.event("warning", text=f"the export is not verified: {result.reason}")
    training.journal.event(
        "exported",
        path=str(result.path) if result.path else None,
        verified=result.verified,
        max_abs_diff=result.max_abs_diff,
        reason=result.reason,
        seconds=round(result.seconds, 3),
        bytes=result.bytes,
    )
    if result.verified:
        answer(training)
    return result


def forget_export(training: Training) -> None:
    """Remove what an export that was stopped has written; what was exported before stays."""
    if training.world.first:
        for partial in (training.folder.export_partial, training.folder.adapter_partial):
            shutil.rmtree(partial, ignore_errors=True)


def answer(training: Training) -> None:
    """Let rank 0 answer validation prompts with the exported model, where that was asked for and fits in memory."""
    count = training.plan.config.train.eval_samples
    if not training.world.first or training.validation is None or count == 0:
        return
    device, folder = training.world.device, training.folder
    exported = folder.export if folder.export.is_dir() else folder.adapter
    model = base_model(training.engine.module)
    if 2 * parameter_count(model.parameters()) * model.dtype.itemsize > free_bytes(device):
        training.journal.warning("no samples: the exported model does not fit beside the run")
        return
    training.journal.phase("export", text="answering prompts before and after")
    try:
        if isinstance(training.task, SequenceClassification):
            documents = training.validation.documents
            write_labelled_samples(folder.samples, exported, documents, count, device, training.task)
        else:
            start = weights_at_start(training.plan, folder)
            write_samples(folder.samples, exported, start, training.validation.documents, count, device)
    except Exception as error:
        # Samples are for people to look at: whatever a tokenizer or a model makes of them ends no run.
        training.journal.warning(f"no samples: {type(error).__name__}: {error}")


def write_down(training: Training, ending: Ending, exported: ExportResult | None) -> None:
    """Write outcome.json and the attempt's last event, on rank 0."""
    if not training.world.first:
        return
    progress = training.progress
    now = time.time()
    failure = None
    if ending.state is State.failed:
        node = ending.rank // training.plan.topology.ranks_per_node
        failure = Failure(ending.rank, node, ending.host or socket.gethostname(), now, Cause.nan, ending.reason)
    saved = progress.saved_step
    outcome = Outcome(
        state=ending.state,
        reason=ending.reason,
        step=saved,
        attempt=training.attempt,
        time=now,
        failure=failure,
        checkpoint=str(training.folder.checkpoint(saved)) if saved else None,
        export_verified=None if exported is None else exported.verified,
        metrics=turns.metrics_of(training),
        best_step=best_step(training),
    )
    write_outcome(training.folder.outcome, outcome)
    if failure is not None:
        training.journal.event("failure", cause=failure.cause.value, message=failure.message)
    training.journal.event("attempt_ended", state=ending.state.value, reason=ending.reason)
    print(f"{ending.state.value}: {ending.reason}", flush=True)
