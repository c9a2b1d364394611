"""How long a run takes: `forecast_of(subject, facts)`, a step at three grades, corrected by what was measured. Pure."""

from __future__ import annotations

import math

from conf.forecast import Correction, Forecast, Span, TimePart
from conf.record import Device
from conf.schema import ClusterConfig, EvalStrategy, Offload, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.memory.estimate import Subject
from launcher.plan.memory.held import BYTES
from launcher.plan.rows import held_out, training_rows
from launcher.plan.time.around import around, start_of
from launcher.plan.time.cost import Cost, cost_of
from launcher.plan.time.documents import Documents, Step
from launcher.plan.time.machine import Machine, machine_of
from launcher.plan.time.step import FORWARD_SHARE, GRADES, Seconds, Way, seconds_of
from launcher.show import units
from slurm import duration

NARROWED = (0.85, 1.2)
"""Of the likely time, once runs like this one were measured."""


def forecast_of(subject: Subject, facts: Facts, correction: Correction | None = None) -> Forecast | None:
    """The forecast of a run; None where not even the number of parameters is known."""
    cost = cost_of(subject)
    if cost is None:
        return None
    config, topology = subject.config, subject.topology
    machine, documents = machine_of(config, facts, topology), Documents(config, facts)
    step, way = documents.step(subject.batch, subject.packing != "none"), way_of(subject)
    low, likely, high = (seconds_of(cost, machine, way, step, grade) for grade in GRADES[machine.device])
    span = corrected(Span(low.total, likely.total, high.total), correction)
    beside = around(subject, facts)
    run = None if subject.steps is None else _whole(config, facts, span, subject.steps, beside)
    gpus = topology.device is Device.gpu
    factor = correction.factor if correction else 1.0
    return Forecast(
        step=span,
        parts=[part for part in parts_of(cost, machine, way, step, likely, factor) if part.seconds > 0],
        tokens=step.useful,
        devices=topology.world_size if gpus else topology.nodes,
        kind="GPU" if gpus else "node",
        machine=machine.source,
        mfu=_mfu(cost, machine, step, span.likely),
        run=run,
        around=beside,
        jobs=_jobs(config.cluster, run, start_of(beside)),
        rate=config.cluster.gpu_hour_rate if gpus else None,
        currency=config.cluster.currency,
        correction=correction,
        unknown=[] if documents.known else ["lengths of the documents: all count as full"],
    )


def way_of(subject: Subject) -> Way:
    """How the subject computes a step."""
    config, topology = subject.config, subject.topology
    train, parallel = config.train, config.parallel
    return Way(
        stage=int(subject.zero.get("stage", 0)),
        ranks=topology.world_size,
        per_node=topology.ranks_per_node,
        element=BYTES[train.precision],
        interval=train.gradient_checkpointing_interval if train.gradient_checkpointing else 0,
        optimizer_on_host=parallel.offload_optimizer is Offload.cpu,
        weights_on_host=parallel.offload_param is Offload.cpu,
        group=int(subject.zero.get("zero_hpz_partition_size", 1)),
    )


def corrected(span: Span, correction: Correction | None) -> Span:
    """The span as measured runs correct it: their ratio, and a narrower band around it."""
    if correction is None:
        return span
    likely = span.likely * correction.factor
    low, high = NARROWED
    return Span(likely * low, likely, likely * high)


def parts_of(cost: Cost, machine: Machine, way: Way, step: Step, found: Seconds, factor: float) -> list[TimePart]:
    """The parts of a step with how they came about."""
    operations = cost.operations(step.computed, step.context, step.source)
    grade = GRADES[machine.device][1]
    speed = f"{grade.products:.0%} of {machine.operations / 1e12:.3g} TFLOP/s"
    products = f"{operations / 1e12:.4g} TFLOP a rank at {speed}, {units.count(step.micro)} tokens at a time"
    volume = communication_words(cost, way, step.micro_batches)
    parts = [
        TimePart("matrix products", found.products, products),
        TimePart("computed again", found.again, "the forward pass of checkpointed layers"),
        TimePart(
            "memory traffic", found.memory, f"{units.size(cost.moved)} a token at {machine.memory / 1e9:.0f} GB/s"
        ),
        TimePart("host", found.waiting, f"{step.micro_batches} micro batches × {cost.layers} layers"),
        TimePart("communication", found.communication, f"{volume}; what does not hide behind computing"),
        TimePart(
            "optimizer", found.optimizer, f"AdamW on {units.count(cost.trained / (way.ranks if way.stage else 1))}"
        ),
        TimePart("offload", found.offload, f"over {machine.host / 1e9:.0f} GB/s, updated by the host's cores"),
    ]
    return [TimePart(part.name, part.seconds * factor, part.how) for part in parts]


def communication_words(cost: Cost, way: Way, micro_batches: int) -> str:
    """The volume of a step in Ψ, the bytes of all weights: `3Ψ × 2 micro batches, Ψ = 14.9 GiB`."""
    psi = units.size(way.element * (cost.weights if way.stage == 3 else cost.trained))
    if way.stage < 2:
        return f"2Ψ, Ψ = {psi}"
    if way.stage == 2:
        return f"{micro_batches + 1}Ψ, Ψ = {psi}"
    near = f", one within {way.group} ranks" if way.group > 1 else ""
    return f"3Ψ × {micro_batches}{near}, Ψ = {psi}"


def _mfu(cost: Cost, machine: Machine, step: Step, seconds: float) -> float | None:
    if machine.peak is None:
        return None
    return cost.operations(step.computed, step.context, step.source) / seconds / machine.peak


def _whole(config: RunConfig, facts: Facts, step: Span, steps: int, beside: list[TimePart]) -> Span:
    """The run: its steps, its evaluations at the cost of a forward pass, and what it does besides."""
    passes = _evaluated(config, facts, steps) / config.train.global_batch_size * FORWARD_SHARE
    return step.times(steps + passes).plus(sum(part.seconds for part in beside))


def _evaluated(config: RunConfig, facts: Facts, steps: int) -> float:
    """Documents that all evaluations read together."""
    rows, _ = training_rows(facts)
    given = facts.data_files.get("data.validation_file")
    documents = (given.rows or 0) if given else held_out(config.data, rows) if rows else 0
    train = config.train
    turns = 1 + train.eval_on_start
    if train.eval_strategy is EvalStrategy.steps:
        turns += steps // max(1, train.eval_steps)
    elif train.eval_strategy is EvalStrategy.epoch:
        turns += math.ceil(train.num_train_epochs)
    return float(documents * turns)


def _jobs(cluster: ClusterConfig, run: Span | None, start_s: float) -> int | None:
    """Jobs of `cluster.time` that the run takes; each starts anew and stops a little before its end."""
    if run is None or cluster.time is None:
        return None
    try:
        limit = duration.seconds(cluster.time)
    except ValueError:
        return None
    if limit is None or run.likely <= limit:
        return None if limit is None else 1
    own = max(limit * 0.1, limit - start_s - cluster.signal_lead_s)
    return max(1, math.ceil((run.likely - start_s) / own))
