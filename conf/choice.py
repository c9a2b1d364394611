"""What `parallel=auto` and `cluster.nodes=auto` chose for a plan, among what, and why; frozen into `run.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AUTO_KEYS = (
    "parallel.zero_stage",
    "parallel.offload_optimizer",
    "parallel.offload_param",
    "parallel.hpz_partition_size",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.gradient_checkpointing",
    "train.gradient_checkpointing_interval",
)
"""Keys that `parallel=auto` chooses where nobody else gives them (`conf/parallel/auto.yaml` names them all)."""

NODES = "cluster.nodes"


@dataclass(frozen=True)
class Alternative:
    """Another way to compute the same run: its overrides, and why it was not chosen.

    `peak` are bytes of a rank's GPU (on CPUs of a node) at the moment `moment`, `step_s` seconds of a step, `cost`
    times the GPU-hours of what was chosen. `fits` is None where nobody knows how much memory there is.
    """

    overrides: list[str]
    fits: bool | None
    reason: str
    peak: int
    moment: str
    step_s: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """The keys that were chosen with their values; those of them that were `given` and kept; the alternatives.

    `looked_at` counts every combination; 0 where nothing had to be looked at.
    """

    keys: dict[str, Any]
    given: list[str]
    looked_at: int
    reason: str
    alternatives: list[Alternative] = field(default_factory=list)
