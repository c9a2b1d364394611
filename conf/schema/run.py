"""A whole run: every group of keys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from conf.schema.checkpoint import CheckpointConfig
from conf.schema.cluster import ClusterConfig
from conf.schema.data import DataConfig
from conf.schema.health import HealthConfig
from conf.schema.key import key
from conf.schema.method import MethodConfig
from conf.schema.model import ModelConfig
from conf.schema.parallel import ParallelConfig
from conf.schema.sweep import SweepConfig
from conf.schema.task import TaskConfig
from conf.schema.tracking import TrackingConfig
from conf.schema.training import OptimConfig, ScheduleConfig, TrainConfig


class Access(Enum):
    """Who may read a run folder."""

    private = "private"
    group = "group"


@dataclass
class RunConfig:
    """A whole run."""

    name: Optional[str] = key(
        None,
        "What you call the run; its id is the name and 8 hex digits of its content. Null: made of model, task and"
        " method.",
    )
    run_root: str = key("./runs", "Folder in which run folders are made; shared by all nodes.")
    access: Access = key(Access.private, "`private`: only you read the run folder; `group`: your group too.")
    model: ModelConfig = key(ModelConfig, "Which model.")
    data: DataConfig = key(DataConfig, "Which data.")
    task: TaskConfig = key(TaskConfig, "Which task.")
    method: MethodConfig = key(MethodConfig, "Which parameters.")
    parallel: ParallelConfig = key(ParallelConfig, "How model states are sharded.")
    optim: OptimConfig = key(OptimConfig, "Optimizer.")
    schedule: ScheduleConfig = key(ScheduleConfig, "Learning-rate schedule.")
    train: TrainConfig = key(TrainConfig, "Length, batch, precision, rhythm.")
    checkpoint: CheckpointConfig = key(CheckpointConfig, "Checkpoints and export.")
    health: HealthConfig = key(HealthConfig, "What is watched, and what follows when something is wrong.")
    tracking: TrackingConfig = key(TrackingConfig, "Weights & Biases.")
    cluster: ClusterConfig = key(ClusterConfig, "Where it runs.")
    sweep: SweepConfig = key(SweepConfig, "Many runs at once (`-m`).")
