"""The memory of a run, all of it, from its configuration and the model's shape alone: `estimate_of(…)`. Pure.

Of a rank's device the moments are: load, forward (up to the loss), backward, step. What lies outside torch's allocator
(CUDA's context, NCCL's buffers) and what the allocator cannot use again (fragments) are terms like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from conf.adapters import peft_type
from conf.estimate import Estimate, Moment, Need, Term
from conf.record import Batch, Device, Plan, Topology
from conf.schema import RunConfig, TaskName
from launcher.facts.facts import Facts
from launcher.plan.measured import corrected_need, memory_correction
from launcher.plan.memory import host, live
from launcher.plan.memory.activations import Activations, Work, activations_of
from launcher.plan.memory.devices import gpu_memory
from launcher.plan.memory.held import BYTES, Held, guessed, held_of
from launcher.plan.memory.layers import Attention, stacks_of
from launcher.plan.memory.states import BACKWARD, FORWARD, STEP, Part, parts_of, whole_weights
from launcher.plan.shapes.weights import Shape
from launcher.plan.trainable import Trained
from launcher.plan.zero import deepspeed_json
from launcher.show import units

GIB = 1 << 30
STATES = frozenset({"weights", "gradients", "optimizer"})
CONTEXT = (0.4, 0.6, 1.0)
"""GiB of CUDA's context with the kernels of torch and its libraries, low, likely, high."""

NCCL = (0.3, 1.0, 2.0)
"""GiB of NCCL's channels and buffers of the communicators of a run with more than one rank."""

FRAGMENTS = (0.0, 0.02, 0.06)
"""Share that torch's allocator holds and cannot hand out, with `expandable_segments` (Muster sets it)."""

ACTIVATIONS = "activations"
ACTIVATION_BAND = (0.95, 1.05)


@dataclass(frozen=True)
class Subject:
    """What an estimate is made of: a configuration at one world size, and the model."""

    config: RunConfig
    topology: Topology
    batch: Batch
    zero: Mapping[str, Any]
    packing: str
    model: Mapping[str, Any]
    shape: Shape | None = None
    trained: Trained | None = None
    parameters: int | None = None
    trainable: int | None = None
    quantized: int = 0
    steps: int | None = None


def estimate_of(subject: Subject, facts: Facts) -> Estimate | None:
    """The estimate; None where neither weights nor their number are known."""
    held = held_by(subject)
    if held is None:
        return None
    config = subject.config
    parts = parts_of(held, subject.zero, subject.topology.world_size)
    work = activations_by(subject)
    device = device_need_of(subject, facts, held, parts, work)
    unknown = [] if work else [f"{ACTIVATIONS}: what the layers of {_kind(subject)} keep is not known"]
    bounded = is_bounded(subject)
    if bounded:
        guess = f"{units.count(held.trainable)} parameters at most are assumed"
        unknown.append(f"what the adapter trains: no formula knows {peft_type(config.method.peft)} as given; {guess}")
    if device is not None and device.capacity is None:
        unknown.append(f"the memory of a GPU: {device.capacity_from}")
    whole = int(held.element * (held.trainable + held.still) + held.packed * 2)
    stage = int(subject.zero.get("stage", 0))
    disk = host.disk_terms(config, held, stage, whole, host.data_bytes(facts.data_files), subject.steps)
    return Estimate(
        device,
        host_need_of(subject, facts, held, parts, work),
        Moment("disk", disk),
        unknown,
        bounded,
    )


def device_need(subject: Subject, facts: Facts) -> Need | None:
    """What a rank's GPU holds; None on CPUs, and where neither weights nor their number are known."""
    held = held_by(subject)
    if held is None or subject.topology.device is not Device.gpu:
        return None
    parts = parts_of(held, subject.zero, subject.topology.world_size)
    return device_need_of(subject, facts, held, parts, activations_by(subject))


def device_need_of(
    subject: Subject, facts: Facts, held: Held, parts: list[Part], work: Activations | None
) -> Need | None:
    """As `device_need`, of what is held and worked on; corrected by what runs like it have measured."""
    if subject.topology.device is not Device.gpu:
        return None
    without = ACTIVATIONS if work is None else f"adapter's {ACTIVATIONS}" if is_bounded(subject) else ""
    need = Need(_device_moments(subject, held, parts, work), *gpu_memory(subject.config.cluster, facts), without)
    return corrected_need(need, memory_correction(subject, facts))


def host_need_of(subject: Subject, facts: Facts, held: Held, parts: list[Part], work: Activations | None) -> Need:
    """What a node's host holds; on CPUs corrected as a GPU's memory is."""
    config, topology, on_cpu = subject.config, subject.topology, subject.topology.device is Device.cpu
    working = None
    if on_cpu and work:
        working = _term("activations", work.peak, "forward and backward of a micro batch", "activations")
    moments = host.host_moments(config, held, parts, topology.ranks_per_node, topology.device, working)
    need = Need(moments, *host.host_capacity(config, facts))
    return corrected_need(need, memory_correction(subject, facts)) if on_cpu else need


def held_by(subject: Subject) -> Held | None:
    """What a rank trains and keeps; counted roughly where only the number of parameters is known."""
    if subject.shape is not None and subject.trained is not None:
        return held_of(subject.config, subject.shape, subject.trained)
    if not subject.parameters:
        return None
    return guessed(subject.config, subject.parameters, subject.trainable, subject.quantized)


def model_states(plan: Plan, stage: int) -> float | None:
    """Bytes of weights, gradients and optimizer of a rank's device for a plan at another ZeRO stage, from the numbers
    of its parameters alone; None where they are not known."""
    if not plan.parameters:
        return None
    config = replace(plan.config, parallel=replace(plan.config.parallel, zero_stage=stage))
    held = guessed(config, plan.parameters, plan.trainable_parameters, plan.quantized_parameters)
    written = deepspeed_json(config, plan.topology, plan.layout.batch, None)["zero_optimization"]
    parts = parts_of(held, written, plan.topology.world_size)
    return sum(part.size for part in parts if part.kind in STATES and FORWARD in part.moments and not part.host)


def activations_by(subject: Subject) -> Activations | None:
    """Activations of a micro batch; None where the architecture's are not known."""
    config, batch = subject.config, subject.batch
    element = BYTES[config.train.precision]
    attention = attention_of(config, subject.packing)
    stacks = stacks_of(subject.model, element, attention)
    if stacks is None:
        return None
    packed = subject.packing != "none"
    length = config.data.max_length
    rows, length = (1, batch.micro_batch_size * length) if packed else (batch.micro_batch_size, length)
    paired = len(stacks) > 1
    vocabulary, positions = int(subject.model.get("vocab_size") or 0), rows * length
    if config.task.name is TaskName.seq_cls:
        vocabulary, positions = max(2, len(config.task.labels)), rows
    elif paired:
        positions = rows * config.data.max_target_length
    return activations_of(
        stacks,
        Work(
            rows=rows,
            length=length,
            keys=length,
            positions=positions,
            vocabulary=vocabulary,
            element=element,
            target_length=config.data.max_target_length if paired else 0,
            checkpointing=config.train.gradient_checkpointing,
            interval=config.train.gradient_checkpointing_interval,
            frozen_layers=0 if config.method.unfreeze else config.method.freeze_layers,
            softcap=bool(subject.model.get("final_logit_softcapping")),
            adapter=adapter_bytes(subject, element),
            made=element * subject.trained.made / len(stacks[0].layers) if subject.trained else 0.0,
            frozen_weights=has_dropout(subject),
        ),
    )


def adapter_bytes(subject: Subject, element: int) -> float:
    """Bytes a token and layer that an adapter keeps: LoRA the input after dropout with its mask, and what lies between
    its two matrices (peft/tuners/lora/layer.py, `forward`)."""
    trained = subject.trained
    if trained is None or subject.shape is None:
        return 0.0
    dropped = sum((element + 1) * one.inputs for one in trained.targets) if has_dropout(subject) else 0
    return (element * trained.kept + dropped) / max(1, sum(subject.shape.stacks))


def has_dropout(subject: Subject) -> bool:
    """Whether an adapter reads inputs of its own, so that the frozen layers under it need to keep none."""
    return bool(subject.trained and subject.trained.targets) and bool(subject.config.method.peft.get("lora_dropout"))


def attention_of(config: RunConfig, packing: str) -> Attention:
    """What attention keeps: packed documents and flash attention neither masks nor repeated keys."""
    if packing != "none":
        return Attention.packed
    name = config.model.attn_implementation
    if name == "eager":
        return Attention.eager
    return Attention.flash if "flash" in name else Attention.masked


def is_bounded(subject: Subject) -> bool:
    """Whether an adapter is trained that no formula counts."""
    return bool(subject.config.method.peft) and subject.trainable is None


def _kind(subject: Subject) -> str:
    return str(subject.model.get("model_type") or "this architecture")


def _device_moments(subject: Subject, held: Held, parts: list[Part], work: Activations | None) -> list[Moment]:
    train, ranks = subject.config.train, subject.topology.world_size
    outside = [Term("CUDA context", *_of(CONTEXT), "outside torch's allocator", "other")]
    if ranks > 1:
        outside.append(Term("NCCL", *_of(NCCL), "outside torch's allocator", "other"))
    made = bool(subject.trained and subject.trained.made)
    turn, later = (live.gathered(subject.shape, held, subject.zero, train, ranks, turn, made) for turn in (True, False))
    loading = [part for part in parts if part.kind == "weights" and not part.host]
    if held.packed and int(subject.zero.get("stage", 0)) == 3:
        loading = list(whole_weights(held))  # each rank loads them whole (train/model/model.py), DeepSpeed shards later
    moments = {
        "load": [_exact(part) for part in loading],
        "forward": _states(parts, FORWARD) + turn + _activation_terms(work, at_loss=True),
        "backward": _states(parts, BACKWARD) + later + _activation_terms(work, at_loss=False),
        "step": _states(parts, STEP),
    }
    return [Moment(name, [*terms, _fragments(terms), *outside]) for name, terms in moments.items()]


def _activation_terms(work: Activations | None, at_loss: bool) -> list[Term]:
    if work is None:
        return []
    if at_loss:
        return [
            _term("activations", work.kept, "kept by the layers for backward", "activations"),
            _term("logits", work.logits, "logits, their gradients, fp32 in chunks of 2,048", "activations"),
        ]
    return [
        _term("activations", work.kept_below, "kept by the layers below", "activations"),
        _term("one layer", work.layer, "what its backward pass keeps and makes", "activations"),
    ]


def _states(parts: list[Part], moment: str) -> list[Term]:
    return [_exact(part) for part in parts if moment in part.moments and not part.host]


def _exact(part: Part) -> Term:
    size = int(part.size)
    return Term(part.name, size, size, size, part.how, part.kind)


def _term(name: str, size: float, how: str, kind: str) -> Term:
    low, high = ACTIVATION_BAND
    return Term(name, int(size), int(size * low), int(size * high), how, kind)


def _fragments(terms: list[Term]) -> Term:
    likely = sum(term.likely for term in terms)
    low, middle, high = (int(likely * share) for share in FRAGMENTS)
    return Term("fragments", middle, low, high, f"{FRAGMENTS[1]:.0%} of the above", "other")


def _of(band: tuple[float, float, float]) -> tuple[int, int, int]:
    low, likely, high = (int(gib * GIB) for gib in band)
    return likely, low, high
