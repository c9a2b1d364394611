"""Numbers outside the range in which they mean something."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from conf.schema import EvalStrategy, RunConfig, Scheduler
from launcher.problems import Problem


@dataclass(frozen=True)
class Range:
    """Least and largest value; `above` and `below` exclude the ends."""

    least: float
    largest: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the range."""
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.largest if self.below else value <= self.largest) and math.isfinite(value)

    def words(self) -> str:
        """The range in words."""
        low = f"{'above' if self.above else 'at least'} {self.least:g}"
        if self.largest == math.inf:
            return f"has to be {low}"
        return f"has to be {low} and {'below' if self.below else 'at most'} {self.largest:g}"

    def nearest(self, value: float) -> str:
        """The end of the range next to `value`, where the end belongs to it."""
        if value <= self.least:
            return "" if self.above else f"{self.least:g}"
        return "" if self.below or not math.isfinite(self.largest) else f"{self.largest:g}"


COUNT = Range(1)
AMOUNT = Range(0)
SECONDS = Range(1)
DECAY = Range(0, 1, below=True)

RANGES = {
    "model.tokenizer_vocab_size": Range(260),
    "data.validation_size": AMOUNT,
    "data.test_size": AMOUNT,
    "data.max_length": Range(2),
    "data.max_target_length": Range(2),
    "data.shuffle_buffer": COUNT,
    "data.clean.near_threshold": Range(0, 1, above=True),
    "data.clean.min_length": AMOUNT,
    "data.max_bad_rows": AMOUNT,
    "data.prepare_workers": AMOUNT,
    "task.max_predictions": AMOUNT,
    "cluster.max_requeues": AMOUNT,
    "parallel.zero_stage": Range(0, 3),
    "parallel.hpz_partition_size": AMOUNT,
    "optim.learning_rate": Range(0, above=True),
    "optim.weight_decay": AMOUNT,
    "optim.adam_beta1": DECAY,
    "optim.adam_beta2": DECAY,
    "optim.adam_epsilon": Range(0, above=True),
    "optim.max_grad_norm": AMOUNT,
    "schedule.warmup_steps": AMOUNT,
    "schedule.decay_steps": AMOUNT,
    "schedule.min_lr_ratio": Range(0, 1),
    "train.global_batch_size": COUNT,
    "train.per_device_train_batch_size": COUNT,
    "train.gradient_accumulation_steps": COUNT,
    "train.max_steps": AMOUNT,
    "train.num_train_epochs": Range(0, above=True),
    "train.seed": Range(0, 2**32 - 1),
    "train.logging_steps": COUNT,
    "train.per_device_eval_batch_size": COUNT,
    "train.eval_samples": AMOUNT,
    "train.early_stopping_patience": AMOUNT,
    "train.early_stopping_threshold": AMOUNT,
    "checkpoint.save_steps": AMOUNT,
    "checkpoint.save_total_limit": COUNT,
    "checkpoint.max_shard_size_gb": Range(0, above=True),
    "tracking.samples": AMOUNT,
    "tracking.system_interval_s": AMOUNT,
    "health.limits_s.prepare": SECONDS,
    "health.limits_s.load": SECONDS,
    "health.limits_s.first_step": SECONDS,
    "health.limits_s.train": SECONDS,
    "health.limits_s.evaluate": SECONDS,
    "health.limits_s.save": SECONDS,
    "health.limits_s.export": SECONDS,
    "health.step_factor": Range(1, above=True),
    "health.straggler_factor": AMOUNT,
    "health.collective_timeout_s": SECONDS,
    "health.max_skipped_steps": AMOUNT,
    "health.max_roll_backs": AMOUNT,
    "health.spike_factor": Range(0, above=True),
    "health.preflight.limit_s": Range(1, 120),
    "health.preflight.scratch_gib": AMOUNT,
    "health.preflight.run_gib": AMOUNT,
    "health.preflight.memory_gib": AMOUNT,
    "health.preflight.gpu_used_gib": AMOUNT,
    "health.preflight.shm_gib": AMOUNT,
    "health.preflight.memlock_gib": AMOUNT,
    "health.preflight.open_files": AMOUNT,
    "health.preflight.clock_s": AMOUNT,
    "health.preflight.link_mib_s": AMOUNT,
    "health.preflight.all_reduce_mib_s": AMOUNT,
    "health.silence_s": Range(5),
    "health.leave_out": AMOUNT,
    "health.node_days": Range(0, above=True),
    "cluster.nodes": COUNT,
    "cluster.max_nodes": COUNT,
    "cluster.gpu_tflops": Range(0, above=True),
    "cluster.intra_node_gbps": Range(0, above=True),
    "cluster.inter_node_gbps": Range(0, above=True),
    "cluster.host_link_gbps": Range(0, above=True),
    "cluster.gpu_hour_rate": AMOUNT,
    "cluster.ranks_per_node": COUNT,
    "cluster.gpus_per_node": Range(-1),
    "cluster.cpus_per_task": COUNT,
    "cluster.signal_lead_s": Range(0, 65535),
    "sweep.max_parallel": COUNT,
    "sweep.max_array_size": COUNT,
    "sweep.jobs": COUNT,
}
"""Range of each number. 260: 256 bytes and the special tokens. 65535: sbatch(1), `--signal`."""

OF_EACH = {
    "data.weights": Range(0, above=True),
    "task.class_weights": AMOUNT,
}
"""Range of each number in a mapping."""


def number_problems(config: RunConfig) -> Iterator[Problem]:
    """Numbers outside their range, and shares that are neither a share nor a whole number."""
    for key, allowed in RANGES.items():
        value = reduce(getattr, key.split("."), config)
        if isinstance(value, int | float) and not allowed.holds(value):
            yield Problem(key, f"{value:g}", allowed.words(), allowed.nearest(value))
    if config.train.eval_strategy is EvalStrategy.steps and config.train.eval_steps < 1:
        yield Problem(
            "train.eval_steps", str(config.train.eval_steps), "has to be at least 1", "train.eval_strategy=no"
        )
    for key, factors in OF_EACH.items():
        named: Any = reduce(getattr, key.split("."), config)
        for name, value in named.items():
            if not factors.holds(value):
                yield Problem(f"{key}.{name}", f"{value:g}", factors.words(), factors.nearest(value))
    yield from _share_problems(config)


def _share_problems(config: RunConfig) -> Iterator[Problem]:
    schedule, steps = config.schedule, config.train.max_steps
    shares = {
        "schedule.warmup_steps": schedule.warmup_steps,
        "data.validation_size": config.data.validation_size,
        "data.test_size": config.data.test_size,
    }
    if schedule.lr_scheduler_type is Scheduler.warmup_stable_decay:
        shares["schedule.decay_steps"] = schedule.decay_steps
    for key, value in shares.items():
        if value >= 1 and value != math.floor(value):
            rule = "is neither a share below 1 nor a whole number"
            yield Problem(key, f"{value:g}", rule, f"{math.floor(value)}, {math.ceil(value)}")
    if not steps or steps < 0 or schedule.warmup_steps < 0:
        return
    taken = {
        key: value if value >= 1 else value * steps for key, value in shares.items() if key.startswith("schedule.")
    }
    if sum(taken.values()) > steps:
        words = " + ".join(f"{key.split('.')[1]} {value:g}" for key, value in taken.items())
        yield Problem("train.max_steps", str(steps), f"is less than {words}", str(math.ceil(sum(taken.values()))))
