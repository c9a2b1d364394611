"""What a plan says beside its numbers: notes on what was derived or ignored, warnings on what deserves a look."""

from __future__ import annotations

import math

from conf.choice import Choice
from conf.record import Batch, Plan
from conf.schema import ClusterKind, EvalStrategy, Precision, RunConfig, Scheduler
from launcher.facts.facts import Facts
from launcher.plan.batch import expected_share
from launcher.plan.grace import grace_warnings
from launcher.plan.rows import training_lengths
from launcher.plan.shapes.known import shape_by_formula
from launcher.plan.targets import unmatched_targets
from launcher.plan.topology import GPU_THREADS, cores_of_node

LOW_SHARE = 0.9


def batch_notes(config: RunConfig, batch: Batch, packing: str) -> list[str]:
    """How the micro batch came about."""
    notes: list[str] = []
    train = config.train
    if train.per_device_train_batch_size is None:
        unit = "documents" if packing == "none" else f"rows of {config.data.max_length} tokens"
        notes.append(f"micro batch {batch.micro_batch_size} ({unit}) chosen: train.per_device_train_batch_size is null")
    if packing != "none" and train.gradient_accumulation_steps is not None:
        notes.append("train.gradient_accumulation_steps is not used: packed rows of a step vary with its documents")
    return notes


def choice_notes(choice: Choice | None) -> list[str]:
    """Which keys were chosen, and which were given."""
    if choice is None:
        return []
    keys = " ".join(f"{key}={str(value).lower()}" for key, value in choice.keys.items())
    among = f", of {choice.looked_at} ways" if choice.looked_at else ""
    notes = [f"chosen: {keys} ({choice.reason}{among})"]
    return notes + ([f"kept as given: {', '.join(choice.given)}"] if choice.given else [])


def schedule_notes(config: RunConfig, steps: int | None) -> list[str]:
    """Warm-up and decay in steps."""
    if steps is None:
        return []
    schedule = config.schedule
    said = f"{schedule.lr_scheduler_type.value} schedule: warm-up {_steps(schedule.warmup_steps, steps)} steps"
    if schedule.lr_scheduler_type is Scheduler.warmup_stable_decay:
        said += f", decay over the last {_steps(schedule.decay_steps, steps)}"
    return [f"{said} of {steps}"]


def model_notes(plan: Plan, facts: Facts) -> list[str]:
    """Which commit of the model is meant, and what is not known of it."""
    notes: list[str] = []
    if facts.model.commit:
        notes.append(f"model: commit {facts.model.commit} in {facts.model.folder}")
    if plan.parameters is None:
        why = f": {facts.made.error}" if facts.made.error else ""
        notes.append(f"the number of parameters is not known from config.json or safetensors files{why}")
    return notes


def _target_warnings(config: RunConfig, facts: Facts) -> list[str]:
    """Names in a list of targets that the model does not have, beside others that it has."""
    shape = shape_by_formula(config, facts.model.config)
    missing = unmatched_targets(config.method.peft, shape) if shape is not None else []
    return [f"method.peft.target_modules: the model has no {' and no '.join(missing)}"] if missing else []


SMALL_FOR_ADAPTERS = 3e-5
"""Peak learning rate under which an adapter, which starts at nothing, learns next to nothing."""


def warnings(plan: Plan, facts: Facts) -> list[str]:
    """What may not be as a person expects."""
    config = plan.config
    parallel = config.parallel
    found: list[str] = []
    if parallel.zero_stage == 0 and config.train.precision is Precision.bf16:
        found.append(
            "parallel.zero_stage=0 with bf16 uses another optimizer of DeepSpeed, whose losses drift from those of "
            "stages 1 to 3 by up to 0.4 %; stage 1 keeps to the curve"
        )
    if config.method.peft and config.optim.learning_rate < SMALL_FOR_ADAPTERS:
        found.append(
            f"optim.learning_rate={config.optim.learning_rate:g} is one of full fine-tuning: adapters usually want "
            "1e-4 to 5e-4, virtual tokens 1e-2 and more"
        )
    found += _target_warnings(config, facts)
    if plan.expected_steps and config.schedule.warmup_steps > plan.expected_steps:
        found.append(
            f"schedule.warmup_steps={config.schedule.warmup_steps:g} is more than the about {plan.expected_steps} "
            "steps expected, before which the learning rate never peaks; 0.1 is a tenth of them"
        )
    found += _share_warning(plan, facts)
    found += job_warnings(plan, facts)
    found += grace_warnings(plan, facts)
    if facts.model.unresolved:
        found.append(f"{config.model.model_name_or_path} was not looked up: run and submit fetch it and fix its commit")
    if _does_not_evaluate(config):
        found.append(
            "there is no validation data: give data.validation_file or data.validation_size to see it generalise"
        )
    for file in facts.data_files.values():
        if file.broken is not None:
            found.append(f"{file.key}: line {file.broken.line} of {file.path} is broken ({file.broken.reason})")
        if file.rows_estimated:
            found.append(f"{file.key}: about {file.rows} rows, estimated from the head of {file.path}")
    return found


def job_warnings(plan: Plan, facts: Facts) -> list[str]:
    """What deserves a word of the job, whatever it runs."""
    cluster, ranks = plan.config.cluster, plan.topology.ranks_per_node
    found = []
    cores = cores_of_node(cluster, facts)[0]
    if cluster.kind is ClusterKind.slurm and cores < ranks:
        given, site = (str(cores), "") if cluster.cpus_per_task else ("null", ", where the site has no other default")
        shared = f"{cores} core{'' if cores == 1 else 's'}{site}"
        found.append(
            f"cluster.cpus_per_task={given}: {ranks} ranks of a node share {shared}; "
            f"give {ranks} at least, better {GPU_THREADS * ranks}"
        )
    if cluster.kind is ClusterKind.slurm and cluster.time is None:
        found.append("cluster.time is null: the site's default limit holds, and it may be short")
    if cluster.requeue is not None:
        found.append(f"cluster.requeue is now called cluster.continuation; this is {plan.continuation.value}")
    return found


def _share_warning(plan: Plan, facts: Facts) -> list[str]:
    lengths = training_lengths(facts)
    if plan.packing == "none" or not lengths:
        return []
    ranks = plan.topology.world_size
    total = plan.config.train.global_batch_size
    share = expected_share(tuple(lengths), total, ranks)
    if share is None or share >= LOW_SHARE:
        return []
    text = (
        f"expected useful share of rank time {share:.2f}: {total / ranks:g} documents a rank and step are few to "
        f"balance; a larger train.global_batch_size (about {32 * ranks}) or fewer ranks raise it"
    )
    return [text]


def _does_not_evaluate(config: RunConfig) -> bool:
    has_data = config.data.validation_file is not None or config.data.validation_size > 0
    return config.train.eval_strategy is not EvalStrategy.no and not has_data


def _steps(share_or_steps: float, total: int) -> int:
    return math.ceil(total * share_or_steps) if share_or_steps < 1 else int(share_or_steps)
