"""What of a run folder goes into a run on W&B, and under which names: rows, messages, tables, models, how it ended.

Used while a run trains (`track`) and afterwards (`push`). Rows carry the time at which they were measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conf.layout import RunFolder
from conf.outcome import Outcome, State
from conf.record import Plan
from conf.schema import LogModel
from train.tracking import sdk
from train.tracking.alerts import Alert, Sent
from train.tracking.describe import predicted
from train.tracking.follow import first_objects
from train.tracking.models import log_checkpoint, log_export
from train.tracking.redaction import redacted
from train.tracking.sdk import STEP
from train.tracking.story import Story

GOOD_ENDS = (State.done, State.stopped)
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_OWN = ("step", "attempt", "time", "worst")
SPLITS = ("validation", "test")


class Mirror:
    """A run on W&B while lines are written to it."""

    def __init__(self, run: Any, plan: Plan, folder: RunFolder):
        """`run` is wandb's."""
        self._run = run
        self._plan = plan
        self._folder = folder
        self._sent = Sent(folder.alerts_sent)
        self._tables: set[str] = set()
        self.url = run.url

    def log_metrics(self, line: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """A line of metrics.jsonl, with what the attempts add up to by then."""
        self._log(line, int(line["step"]), {**values_of(line), **figures})

    def log_system(self, line: Mapping[str, Any], step: int) -> None:
        """A line of system.jsonl, which was measured after a step; the names of the worst nodes go into the summary."""
        self._log(line, step, values_of(line))
        worst = line.get("worst")
        if isinstance(worst, dict):
            self._run.summary.update({f"nodes/worst/{name}": str(host) for name, host in worst.items()})

    def tell(self, alert: Alert) -> None:
        """Send a message that is wanted and was not sent yet."""
        if alert.kind not in self._plan.config.tracking.alerts or alert in self._sent:
            return
        text = str(redacted(alert.text, os.environ))
        self._run.alert(title=alert.title(self._plan.run_id), text=text, level=alert.level)
        self._sent.add(alert)

    def log_before(self, step: int) -> None:
        """The tables of what the model answered before training, once they are there."""
        for split in SPLITS:
            self._log_table(f"samples/{split}/before", self._folder.predictions(f"{split}-before"), step)

    def log_after(self, step: int) -> None:
        """The tables of what the trained model answers."""
        for split in SPLITS:
            self._log_table(f"samples/{split}/after", self._folder.predictions(split), step)
        self._log_table("samples/answers", self._folder.samples, step)

    def log_saved(self, step: int) -> None:
        """A checkpoint as an artifact, where that is wanted."""
        if self._plan.config.tracking.log_model is LogModel.checkpoint:
            log_checkpoint(self._run, self._plan, self._folder, step)

    def finish(self, state: State | None, outcome: Outcome | None, story: Story) -> None:
        """Say how the run stands, hand over what belongs to its end, and wait until the server has everything."""
        if outcome is not None and outcome.state is State.done:
            self.log_after(story.step)
            if self._plan.config.tracking.log_model is not LogModel.none and outcome.export_verified:
                log_export(self._run, self._plan, self._folder, outcome)
        self._run.summary.update(summary(self._plan, state, outcome, story))
        # W&B shows a run that was marked and ended with an error as preempted, and one without as finished.
        self._run.finish(exit_code=0 if state is None or state in GOOD_ENDS else 1)

    def mark_preempting(self) -> None:
        """Say that the run will go on."""
        self._run.mark_preempting()

    def _log(self, line: Mapping[str, Any], step: int, values: Mapping[str, Any]) -> None:
        time = line.get("time")
        stamp = {"_timestamp": float(time)} if isinstance(time, float | int) else {}
        self._run.log({STEP: step, **values, **stamp})

    def _log_table(self, name: str, path: Path, step: int) -> None:
        count = self._plan.config.tracking.samples
        if count == 0 or name in self._tables:
            return
        lines = [_cells(line) for line in first_objects(path, count)]
        if lines:
            self._tables.add(name)
            self._run.log({STEP: step, name: sdk.table(lines)})


def values_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a line, words for what is not finite as numbers."""
    values = {name: value for name, value in line.items() if name not in _OWN}
    return {name: _NUMBERS.get(value, value) if isinstance(value, str) else value for name, value in values.items()}


def summary(plan: Plan, state: State | None, outcome: Outcome | None, story: Story) -> dict[str, Any]:
    """What stands in a row of W&B's table of runs, Hugging Face's names for what it has too."""
    values: dict[str, Any] = {**story.values(), **story.totals(plan.layout.batch.global_batch_size)}
    values |= predicted(plan)
    if outcome is not None:
        values |= {"reason": redacted(outcome.reason, os.environ), **outcome.metrics}
    if state is not None:
        values["state"] = state.value
    return values


def _cells(line: Mapping[str, Any]) -> dict[str, Any]:
    """A table's cells are of one type a column: texts and numbers stay, the rest becomes text."""
    return {name: cell if isinstance(cell, str | int | float) else str(cell) for name, cell in line.items()}
