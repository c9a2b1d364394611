"""`make_plan(config, facts) → Plan`: everything a run needs to know, resolved and frozen. Pure.

The checks have passed when this is called; what was derived or ignored is said in the plan's notes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from conf.adapters import has_virtual_tokens
from conf.architectures import PACKABLE
from conf.choice import Choice
from conf.record import Batch, Layout, Plan, Topology
from conf.schema import Packing, RunConfig, TaskName
from launcher.facts.facts import Facts
from launcher.plan import batch as batches
from launcher.plan import remarks, zero
from launcher.plan.content import run_id
from launcher.plan.continuation import make_continuation
from launcher.plan.export import export_at_end
from launcher.plan.measured import time_correction
from launcher.plan.memory.estimate import Subject, estimate_of
from launcher.plan.memory.verdict import memory_warnings
from launcher.plan.nodes import node_notes, node_warnings
from launcher.plan.resolve import resolved
from launcher.plan.rows import document_tokens, expected_steps
from launcher.plan.script import script_plan
from launcher.plan.selection import selection_notes
from launcher.plan.shapes.known import hidden_size, model_config, shape_by_formula
from launcher.plan.shapes.weights import Shape
from launcher.plan.time.forecast import forecast_of
from launcher.plan.topology import make_topology
from launcher.plan.trainable import quantized_parameters, trained_of

PACKING_ATTENTION = frozenset({"auto", "muster"})
"""Values of `model.attn_implementation` under which documents in one row are proven not to see each other."""

_BYTES_PER_WEIGHT = {"float32": 4, "float16": 2, "bfloat16": 2}


def make_plan(config: RunConfig, facts: Facts, choice: Choice | None = None) -> Plan:
    """The plan of a checked configuration; `choice` says which of its keys were chosen, and why.

    Raises:
        ValueError: the batch equation does not hold (the checks name it before).
    """
    frozen = resolved(config, facts)
    if frozen.task.name is TaskName.script:
        plan = script_plan(frozen, facts)
        plan.notes.extend(node_notes(frozen, facts))
        plan.warnings.extend([*remarks.job_warnings(plan, facts), *node_warnings(frozen, facts)])
        return plan
    topology, notes = make_topology(frozen.cluster, facts)
    model_type = str(facts.model.config.get("model_type", ""))
    packing, packing_note = resolve_packing(frozen, model_type)
    subject = subject_of(frozen, facts, topology, packing)
    planned, parameters = subject.batch, subject.parameters
    width = hidden_size(facts.model.config)
    steps, steps_note = expected_steps(frozen, facts)
    export, export_note = export_at_end(frozen, parameters)
    continuation, continuation_notes = make_continuation(frozen.cluster, facts)
    identity = run_id(frozen)
    plan = Plan(
        run_id=identity,
        run_dir=str(PurePosixPath(frozen.run_root, identity)),
        config=frozen,
        topology=topology,
        layouts=_layouts(frozen, topology, planned, packing, width),
        model_type=model_type,
        parameters=parameters,
        packing=packing,
        export_at_end=export,
        expected_steps=steps,
        trainable_parameters=subject.trainable,
        continuation=continuation,
        quantized_parameters=subject.quantized,
        memory=estimate_of(subject, facts),
        time=forecast_of(subject, facts, time_correction(subject, facts)),
        choice=choice,
    )
    said = [batches.equation(planned, packing != "none", frozen.data.max_length)]
    said += remarks.batch_notes(frozen, planned, packing) + ([packing_note] if packing_note else [])
    said += remarks.choice_notes(choice)
    said += [*notes, *selection_notes(frozen), steps_note, *remarks.schedule_notes(frozen, steps), export_note]
    said += continuation_notes
    said += remarks.model_notes(plan, facts)
    said += zero.difference_lines(frozen, topology, planned, width)
    plan.notes.extend([*said, *node_notes(frozen, facts), *facts.notes, *facts.code.notes])
    plan.warnings.extend([*remarks.warnings(plan, facts), *node_warnings(frozen, facts), *memory_warnings(plan.memory)])
    return plan


def subject_of(
    config: RunConfig, facts: Facts, topology: Topology, packing: str, like: Subject | None = None
) -> Subject:
    """What an estimate of memory is made of, at the planned world size; `like` is another one of the same model."""
    planned = plan_batch(config, facts, topology.world_size, packing)
    if like is not None:
        written = zero.deepspeed_json(config, topology, planned, hidden_size(facts.model.config))
        return replace(
            like,
            config=config,
            topology=topology,
            batch=planned,
            zero=written["zero_optimization"],
            packing=packing,
        )
    shape = known_shape(config, facts)
    parameters = parameters_of(facts, shape)
    model = model_config(config, facts.model.config)
    trained = trained_of(config, shape, model) if shape else None
    return Subject(
        config=config,
        topology=topology,
        batch=planned,
        zero=zero.deepspeed_json(config, topology, planned, hidden_size(model))["zero_optimization"],
        packing=packing,
        model=model,
        shape=shape,
        trained=trained,
        parameters=parameters,
        trainable=trained.parameters if trained and trained.counted else None,
        quantized=quantized_parameters(config, shape, parameters),
        steps=expected_steps(config, facts)[0],
    )


def resolve_packing(config: RunConfig, model_type: str) -> tuple[str, str]:
    """How documents are laid out, and why not as asked (empty where it is)."""
    asked = config.data.packing
    if asked is Packing.none:
        return asked.value, ""
    if config.task.name is not TaskName.causal_lm:
        why = f"task={config.task.name.value} pads: its models read whole rows"
        return Packing.none.value, f"data.packing={asked.value} becomes none: {why}"
    if has_virtual_tokens(config.method.peft):
        why = f"method={config.method.name} puts learned tokens before each document"
        return Packing.none.value, f"data.packing={asked.value} becomes none: {why}"
    if model_type not in PACKABLE:
        why = f"{model_type or 'this architecture'} is not among those proven to keep packed documents apart"
        return Packing.none.value, f"data.packing={asked.value} becomes none: {why}"
    attention = config.model.attn_implementation
    if attention not in PACKING_ATTENTION:
        why = f"model.attn_implementation={attention} is not Muster's attention per document"
        return Packing.none.value, f"data.packing={asked.value} becomes none: {why}"
    return asked.value, ""


def plan_batch(config: RunConfig, facts: Facts, world_size: int, packing: str) -> Batch:
    """The batch at the planned world size."""
    if packing == Packing.none.value:
        return batches.padded_batch(config.train, world_size)
    return batches.packed_batch(config.train, world_size, config.data.max_length, document_tokens(config, facts))


def known_shape(config: RunConfig, facts: Facts) -> Shape | None:
    """The model weight by weight: by formula, else as the ranks' Python made it without memory."""
    return shape_by_formula(config, facts.model.config) or facts.made.shape


def parameters_of(facts: Facts, known: Shape | None) -> int | None:
    """The model's parameters: by formula, else from the bytes of its weights, else None."""
    shape = facts.model.config
    counted = known.parameters if known else None
    if counted is not None or facts.model.weights_bytes is None:
        return counted
    kind = str(shape.get("dtype") or shape.get("torch_dtype") or "bfloat16")
    return facts.model.weights_bytes // _BYTES_PER_WEIGHT.get(kind, 2)


def _layouts(
    config: RunConfig, topology: Topology, planned: Batch, packing: str, hidden: int | None
) -> dict[int, Layout]:
    """Batch and DeepSpeed's JSON for the planned world size and for those at which the run may resume."""
    elsewhere: Callable[[Batch, int], Batch | None]
    elsewhere = batches.padded_at if packing == Packing.none.value else batches.packed_at
    chosen = {planned.world_size: planned}
    for world_size in batches.resumable_world_sizes(topology.nodes, topology.ranks_per_node):
        if world_size not in chosen:
            other = elsewhere(planned, world_size)
            if other is not None:
                chosen[world_size] = other
    return {
        size: Layout(batch, zero.deepspeed_json(config, topology, batch, hidden))
        for size, batch in sorted(chosen.items())
    }
