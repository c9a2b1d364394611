"""Numbers outside the range in which they mean something."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from conf.schema import EvalStrategy, LongRows, RunConfig, Scheduler, SplitBy
from launcher.facts.facts import Facts
from launcher.plan.rows import expected_steps, training_rows
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

    def words(self, value: float) -> str:
        """The range in words that say what is wrong with `value`."""
        low = f"{'above' if self.above else 'at least'} {self.least:g}"
        if self.largest == math.inf:
            return f"has to be {low}" if math.isfinite(value) else f"has to be {low} and finite"
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
    "train.num_train_epochs": Range(0, 1e6, above=True),
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
    "health.limits_s.script": SECONDS,
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
    "cluster.gpu_memory_gib": Range(0, above=True),
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

ROUNDING = 1e-6
"""Steps by which a sum of shares may be more than the whole."""

STEPS = ("train.max_steps", "train.num_train_epochs", "train.global_batch_size")
"""Numbers that the steps of a run follow from."""

OF_EACH = {
    "data.weights": Range(0, above=True),
    "task.class_weights": AMOUNT,
}
"""Range of each number in a mapping."""


def number_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Numbers outside their range, shares that are neither a share nor a whole number, a schedule that never ends."""
    outside = set()
    for key, allowed in RANGES.items():
        value = reduce(getattr, key.split("."), config)
        if isinstance(value, int | float) and not allowed.holds(value):
            outside.add(key)
            yield Problem(key, f"{value:g}", allowed.words(value), allowed.nearest(value))
    if config.train.eval_strategy is EvalStrategy.steps and config.train.eval_steps < 1:
        yield Problem(
            "train.eval_steps", str(config.train.eval_steps), "has to be at least 1", "train.eval_strategy=no"
        )
    for key, factors in OF_EACH.items():
        named: Any = reduce(getattr, key.split("."), config)
        for name, value in named.items():
            if not factors.holds(value):
                yield Problem(f"{key}.{name}", f"{value:g}", factors.words(value), factors.nearest(value))
    shares = _shares(config)
    for key, share in shares.items():
        if key not in outside and share >= 1 and share != math.floor(share):
            rule = "is neither a share below 1 nor a whole number"
            yield Problem(key, f"{share:g}", rule, f"{math.floor(share)}, {math.ceil(share)}")
    if not outside & {*shares, *STEPS}:
        yield from _schedule_problems(config, facts, shares)


def _shares(config: RunConfig) -> dict[str, float]:
    """What is a share of the whole below 1, and a whole number from there on."""
    schedule = config.schedule
    shares = {
        "schedule.warmup_steps": schedule.warmup_steps,
        "data.validation_size": config.data.validation_size,
        "data.test_size": config.data.test_size,
    }
    if schedule.lr_scheduler_type is Scheduler.warmup_stable_decay:
        shares["schedule.decay_steps"] = schedule.decay_steps
    return shares


def _schedule_problems(config: RunConfig, facts: Facts, shares: Mapping[str, float]) -> Iterator[Problem]:
    """Warm-up and decay that are longer than the run, as far as its steps are known for certain."""
    steps, how = expected_steps(config, facts)
    counted = config.train.max_steps is None
    data = config.data
    uncertain = training_rows(facts)[1] or data.on_long is LongRows.split or data.split_by is SplitBy.grouped
    if not steps or (counted and uncertain):
        return
    taken = {
        key: value if value >= 1 else value * steps for key, value in shares.items() if key.startswith("schedule.")
    }
    if sum(taken.values()) <= steps + ROUNDING:
        return
    words = " + ".join(f"{key.split('.')[1]} {value:g}" for key, value in taken.items())
    if counted:
        key = max(taken, key=lambda key: taken[key])
        yield Problem(key, f"{shares[key]:g}", f"is too long: {words} in {how}", "0.1")
    else:
        yield Problem("train.max_steps", str(steps), f"is less than {words}", str(math.ceil(sum(taken.values()))))
