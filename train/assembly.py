"""The model of a plan with its task, optimizer and engine: the one way to make them, for training, export and the best
model at the end. A fresh engine is what a checkpoint is loaded into: under ZeRO-3 one that has saved takes none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conf.layout import RunFolder
from conf.record import Layout, Plan
from train.data.prepared import Prepared
from train.distributed import World
from train.engine import Engine
from train.methods.method import with_method
from train.model.model import load_model
from train.model.optimizer import make_optimizer
from train.tasks.choose import make_task
from train.tasks.task import Task


@dataclass(frozen=True)
class Assembly:
    """An engine with untrained weights, the task of its model, and its optimizer in words."""

    engine: Engine
    task: Task
    optimizer: str


def assemble(
    plan: Plan,
    layout: Layout,
    folder: RunFolder,
    data: Prepared,
    world: World,
    report: Callable[[str], None] = lambda text: None,
    doing: Callable[[str], None] = lambda text: None,
) -> Assembly:
    """Load the model of a plan and shard it; a collective. Without steps to make there is no optimizer.

    `report` is told which weights the model's folder does not have, `doing` what is being done.
    """
    config = plan.config
    doing("weights")
    model = load_model(plan, layout, folder, data, report)
    task = make_task(plan, data, model, folder.model)
    model = with_method(plan, layout, model)
    doing("DeepSpeed's engine")
    if config.train.max_steps == 0:
        return Assembly(Engine(model, None, layout.deepspeed, world.device), task, "no optimizer")
    optimizer, words = make_optimizer(model, config.optim, config.parallel, world.device, world.all_true)
    return Assembly(Engine(model, optimizer, layout.deepspeed, world.device), task, words)
