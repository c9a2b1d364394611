"""Every configuration key of Muster: its type, default, unit, effect and when to change it.

This is the one truth about the keys. Hydra composes against these dataclasses, `--help` and `docs/reference.md` are
generated from their documentation, and the checks name them in every message. This module imports nothing but the
standard library, so that the nodes can read it without Hydra.

Sources of spellings: Hugging Face's TrainingArguments for training, PEFT for methods, sbatch for clusters, DeepSpeed
inside `parallel.deepspeed`.
"""

from __future__ import annotations

from conf.schema.checkpoint import CheckpointConfig, ExportWhen
from conf.schema.cluster import (
    ClusterConfig,
    ClusterKind,
    ContainerConfig,
    ContainerRuntime,
    Continuation,
    NetworkConfig,
    Start,
)
from conf.schema.data import CleanConfig, DataConfig, DataFormat, Deduplicate, LongRows, Packing, PrepareWhere, SplitBy
from conf.schema.health import HealthConfig, LimitsConfig, NonFinite, OnSpike
from conf.schema.key import REQUIRED, key
from conf.schema.method import MethodConfig, Quantization
from conf.schema.model import ModelConfig, ModelInit
from conf.schema.parallel import Offload, ParallelConfig
from conf.schema.preflight import PreflightConfig
from conf.schema.run import Access, RunConfig
from conf.schema.sweep import Direction, Pruner, Sampler, SweepConfig
from conf.schema.task import ProblemType, TaskConfig, TaskName
from conf.schema.tracking import AlertKind, ArtifactFiles, LogModel, Tracker, TrackingConfig, TrackingMode
from conf.schema.training import EvalStrategy, OptimConfig, Precision, ScheduleConfig, Scheduler, TrainConfig

__all__ = [
    "REQUIRED",
    "Access",
    "AlertKind",
    "ArtifactFiles",
    "CheckpointConfig",
    "CleanConfig",
    "ClusterConfig",
    "ClusterKind",
    "ContainerConfig",
    "ContainerRuntime",
    "Continuation",
    "DataConfig",
    "DataFormat",
    "Deduplicate",
    "Direction",
    "EvalStrategy",
    "ExportWhen",
    "HealthConfig",
    "LimitsConfig",
    "LogModel",
    "LongRows",
    "MethodConfig",
    "ModelConfig",
    "ModelInit",
    "NetworkConfig",
    "NonFinite",
    "Offload",
    "OnSpike",
    "OptimConfig",
    "Packing",
    "ParallelConfig",
    "Precision",
    "PreflightConfig",
    "PrepareWhere",
    "ProblemType",
    "Pruner",
    "Quantization",
    "RunConfig",
    "Sampler",
    "ScheduleConfig",
    "Scheduler",
    "SplitBy",
    "Start",
    "SweepConfig",
    "TaskConfig",
    "TaskName",
    "Tracker",
    "TrackingConfig",
    "TrackingMode",
    "TrainConfig",
    "key",
]
