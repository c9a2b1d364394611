"""Optimizer, schedule, and length, batch, precision and rhythm of the training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from conf.schema.key import key


class Precision(Enum):
    """Arithmetic of the forward and backward pass."""

    bf16 = "bf16"
    fp32 = "fp32"
    fp16 = "fp16"


class Scheduler(Enum):
    """Learning-rate schedules, in Hugging Face's spelling."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"
    warmup_stable_decay = "warmup_stable_decay"


class EvalStrategy(Enum):
    """When the validation set is evaluated during training."""

    no = "no"
    steps = "steps"
    epoch = "epoch"


@dataclass
class OptimConfig:
    """AdamW."""

    learning_rate: float = key(1e-5, "Peak learning rate.")
    weight_decay: float = key(0.0, "Decoupled weight decay; never on norms, biases and other vectors.")
    adam_beta1: float = key(0.9, "Decay of the first moment.")
    adam_beta2: float = key(0.999, "Decay of the second moment; 0.95 is common for large batches.")
    adam_epsilon: float = key(1e-8, "Added to the root of the second moment.")
    learning_rates: dict[str, float] = key(
        {},
        "Peak learning rates of parameters whose names match a pattern (`*` and `?`), the first that matches: "
        "{'*classifier*': 1e-3, '*': 2e-5}. The rest has `learning_rate`.",
    )
    max_grad_norm: float = key(1.0, "Gradients are scaled down to this L2 norm; 0 turns clipping off.")


@dataclass
class ScheduleConfig:
    """Learning rate over the steps."""

    lr_scheduler_type: Scheduler = key(Scheduler.cosine, "`cosine`, `linear`, `constant` or `warmup_stable_decay`.")
    warmup_steps: float = key(0.03, "Linear warm-up: a share of all steps below 1, else a number of steps.")
    decay_steps: float = key(0.1, "`warmup_stable_decay` only: length of the final decay, a share below 1 or steps.")
    min_lr_ratio: float = key(0.0, "Learning rate at the last step, as a share of the peak.")


@dataclass
class TrainConfig:
    """Length, batch, precision and rhythm of the training."""

    global_batch_size: int = key(
        16,
        "Documents in one optimizer step, over all ranks. Micro batch and accumulation follow from it.",
    )
    per_device_train_batch_size: Optional[int] = key(
        None,
        "Micro batch: documents (packed: rows of `max_length` tokens) a rank computes at a time. Null: chosen. "
        "Changes memory and speed, never the loss.",
    )
    gradient_accumulation_steps: Optional[int] = key(
        None,
        "Micro batches a step. Null: follows from the batch equation; given, it must agree.",
    )
    max_steps: Optional[int] = key(None, "Optimizer steps; wins over `num_train_epochs`. 0: evaluate alone.")
    num_train_epochs: float = key(1.0, "Passes over the training data, where `max_steps` is null.")
    precision: Precision = key(
        Precision.bf16,
        "`bf16` with fp32 master weights, `fp32`, or `fp16` with loss scaling (GPUs only).",
    )
    seed: int = key(42, "Order of the data, dropout and random weights.")
    deterministic: bool = key(
        False,
        "Deterministic GPU kernels: resume bit for bit, somewhat slower. CPUs are always exact.",
    )
    gradient_checkpointing: bool = key(
        False,
        "Recompute activations in the backward pass: less memory, about a quarter more time.",
    )
    gradient_checkpointing_interval: int = key(
        1,
        "With `gradient_checkpointing`: every n-th layer is computed again, the others keep their activations. 1: all; "
        "2 and more: less time and more memory.",
    )
    rehearsal: bool = key(
        True,
        "Run forward and backward on the longest batch before the first step, so that memory fails at once or not"
        " at all.",
    )
    logging_steps: int = key(1, "Steps between lines of metrics.jsonl; the GPU is only waited for then.")
    eval_strategy: EvalStrategy = key(
        EvalStrategy.steps,
        "`no`, every `eval_steps` or every `epoch`. The end is always evaluated where there is validation data.",
    )
    eval_steps: int = key(100, "Steps between evaluations with `eval_strategy=steps`.")
    per_device_eval_batch_size: Optional[int] = key(None, "Documents a rank evaluates at a time. Null: as in training.")
    eval_on_start: bool = key(
        True,
        "Evaluate validation and test data before the first step, to compare with what comes after. A test set whose "
        "answers are generated waits for the end.",
    )
    load_best_model_at_end: bool = key(
        False,
        "Hand back the best model of all evaluations instead of the last: its checkpoint is kept, beyond "
        "`checkpoint.save_total_limit`, and is what is tested and exported.",
    )
    metric_for_best_model: str = key(
        "loss", "Which value of the evaluation decides: `loss`, `accuracy`, `f1_macro`, `rougeL`, `exact_match`, …"
    )
    greater_is_better: Optional[bool] = key(
        None, "Whether more of `metric_for_best_model` is better. Null: not of losses and errors, else yes."
    )
    early_stopping_patience: int = key(
        0,
        "End after so many evaluations in a row without a better `metric_for_best_model`; 0: never. What comes before "
        "the first step does not count.",
    )
    early_stopping_threshold: float = key(0.0, "What counts as better: an improvement by more than this.")
    eval_samples: int = key(0, "Validation prompts answered by the exported model at the end, kept in the run folder.")
    entrypoint: Optional[str] = key(
        None,
        "`task=script`: your own training program, a Python file of the git checkout you are in; each rank runs the "
        "snapshot of it that travels with the run.",
    )
    arguments: list[str] = key(
        [], "Words that the program is started with, as they are; on the command line all that follows `--`."
    )
    options: dict[str, Any] = key(
        {},
        "Options that the program is started with, before `arguments`: {lr: 1e-4, fp16: true} is `--lr 0.0001 --fp16`; "
        "a list repeats its values, null and false leave the option out. A sweep varies them: "
        "`train.options.lr=1e-4,3e-4`.",
    )
