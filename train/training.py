"""What one rank trains with, and how its training ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conf.layout import RunFolder
from conf.outcome import State, StopReason
from conf.record import Layout, Plan
from train.checkpoint.background import Background
from train.data.batches import Loader, TrainingBatches
from train.distributed import World
from train.engine import Engine
from train.evaluation.course import Course
from train.metrics.journal import Journal
from train.metrics.truth import Truth
from train.metrics.window import Window
from train.numbers import Numbers
from train.stop import StopVote
from train.tasks.task import Task


@dataclass(frozen=True)
class Ending:
    """How the loop ended: `done`, a stop, or `failed` for numbers that went wrong, after step `step`.

    `rank` and `host` are where they did.
    """

    state: State
    step: int
    reason: str
    rank: int = 0
    host: str = ""


ASKED = {
    StopReason.stopped: "asked to stop",
    StopReason.time_limit: "the job's time is nearly up",
    StopReason.preempted: "the scheduler wants the nodes",
    StopReason.cancelled: "asked to end at once",
}


def stopped(step: int, reason: StopReason) -> Ending:
    """The ending that a word in STOP asks for."""
    return Ending(State(reason.value), step, ASKED[reason])


@dataclass
class Progress:
    """How far the run is; travels in checkpoints. `place` is `Step.place` of the last step."""

    step: int = 0
    tokens_seen: int = 0
    saved_step: int = 0
    course: Course = field(default_factory=Course)
    numbers: Numbers = field(default_factory=Numbers)
    place: Mapping[str, Any] | None = None


@dataclass
class Training:
    """Everything one rank trains with. `best_step` is set once the engine holds the best model to hand it back.

    `saves_beside`: saves run in `background` while training goes on, until it turns out that there is no memory for it.
    `failed_saves` counts those that failed in a row.
    """

    plan: Plan
    layout: Layout
    folder: RunFolder
    attempt: int
    world: World
    engine: Engine
    loader: TrainingBatches
    validation: Loader | None
    test: Loader | None
    total_steps: int
    journal: Journal
    stop: StopVote
    window: Window
    task: Task
    background: Background
    saves_beside: bool
    truth: Truth
    failed_saves: int = 0
    progress: Progress = field(default_factory=Progress)
    best_step: int | None = None

    @property
    def model_step(self) -> int:
        """The step of the weights in the engine."""
        return self.progress.step if self.best_step is None else self.best_step
