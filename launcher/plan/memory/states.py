"""Bytes of model states and of DeepSpeed's own buffers on a rank, by stage, offload and moment.

ZeRO's shares: Rajbhandari et al. 2020 (arXiv 1910.02054, section 3.1 and figure 1). What lies around them was read in
DeepSpeed 0.19 (`stage_1_and_2.py`, `stage3.py`, `partition_parameters.py` of `runtime/zero`, `unfused_optimizer.py` of
`runtime/fp16`) and weighed in real engines: `tests/dist/test_memory_states.py`, `benchmarks/memory_states.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.plan.memory.held import Held

FP32 = 4
FP64 = 8
DDP_BUCKET = 500_000_000
"""Elements after which stage 0 reduces what it has collected (`runtime/engine.py`, `allreduce_no_retain`)."""

NORM_AT_ONCE = 250_000_000
"""Elements of which stage 3 computes the norm at once (`stage3.py`, `_constant_buffered_norm2`)."""


@dataclass(frozen=True)
class Part:
    """Some bytes: what they are, how they are counted, at which moments they are there, and where."""

    name: str
    size: float
    how: str
    moments: tuple[str, ...]
    host: bool = False
    kind: str = "buffers"


IDLE, FORWARD, BACKWARD, STEP = "idle", "forward", "backward", "step"
ALWAYS = (IDLE, FORWARD, BACKWARD, STEP)


def parts_of(held: Held, zero: Mapping[str, Any], ranks: int) -> list[Part]:
    """Everything that DeepSpeed keeps on one of `ranks` ranks, as its JSON's `zero_optimization` says."""
    stage = int(zero.get("stage", 0))
    if stage == 0:
        return list(_replicated(held))
    found = _stage_1_and_2(held, zero, ranks, stage) if stage < 3 else _stage_3(held, zero, ranks)
    return [*found, *_twice(held, 2 if stage < 3 else 1)]


def total(parts: list[Part], moment: str, host: bool | None = None) -> float:
    """Bytes at a moment, on the device, the host, or (None) both."""
    return sum(part.size for part in parts if moment in part.moments and host in (None, part.host))


def _twice(held: Held, times: int) -> Iterator[Part]:
    """Autograd adds up the gradients of a tied weight before it hands them on: that of the head waits for the
    embedding's, and at the end there is their sum as well. The latter is the copy that stage 3 has for any gradient."""
    if held.twice:
        how = f"{times} × {held.element} B × {_count(held.twice)}"
        yield Part("gradients of a tied head", times * held.element * held.twice, how, (BACKWARD,))


def _count(number: float) -> str:
    from launcher.show.units import count

    return count(number)


def whole_weights(held: Held) -> Iterator[Part]:
    """All weights, as a rank holds them that shares none."""
    whole = held.element * (held.trainable + held.still)
    yield Part("weights", whole, f"{held.element} B × {_count(held.trainable + held.still)}", ALWAYS, kind="weights")
    if held.packed:
        how = f"{held.packed_bytes:g} B × {_count(held.packed)}"
        yield Part("quantized weights", held.packed_bytes * held.packed, how, ALWAYS, kind="weights")


def _replicated(held: Held) -> Iterator[Part]:
    """Stage 0: torch's optimizer in fp32; in 16 bits DeepSpeed's FP16_UnfusedOptimizer with an fp32 copy, whose
    gradients are made of the 16-bit ones at the step while those are still there (`runtime/fp16/unfused_optimizer.py`,
    `step`). Gradients are laid end to end to be reduced, on a single rank too."""
    element, trained = held.element, held.trainable
    yield from whole_weights(held)
    how = f"{element} B × {_count(trained)} trained"
    yield Part("gradients", element * trained, how, (FORWARD, BACKWARD, STEP), kind="gradients")
    yield Part("moments", 2 * FP32 * trained, f"8 B × {_count(trained)} trained", ALWAYS, kind="optimizer")
    if element != FP32:
        how = f"4 B × {_count(trained)} trained"
        yield Part("master weights", FP32 * trained, how, ALWAYS, kind="optimizer")
        yield Part("gradients in fp32", FP32 * trained, how, (STEP,), kind="gradients")
    bucket = collected(held.trained)
    yield Part("all-reduce bucket", element * bucket, f"{element} B × {_count(bucket)}", (BACKWARD,))


def collected(sizes: Iterable[int], limit: int = DDP_BUCKET) -> int:
    """Elements of the largest bucket, where tensors are collected until they are more than `limit`."""
    most = now = 0
    for size in sizes:
        now += size
        most = max(most, now)
        now = 0 if now > limit else now
    return most


def _stage_1_and_2(held: Held, zero: Mapping[str, Any], ranks: int, stage: int) -> Iterator[Part]:
    element, trained = held.element, held.trainable
    share = trained / ranks
    part = f"{_count(trained)} ÷ {ranks}"
    offload = "offload_optimizer" in zero
    bucket, buckets = int(zero["reduce_bucket_size"]), 2 if zero.get("overlap_comm") else 1
    yield from whole_weights(held)
    if offload:
        yield from _offloaded(held, ranks, stage, share, part, bucket)
    else:
        yield Part("master weights", FP32 * share, f"4 B × {part}", ALWAYS, kind="optimizer")
        yield Part("moments", 2 * FP32 * share, f"8 B × {part}", ALWAYS, kind="optimizer")
        # the reduced gradients, one flat copy of them, and in 16 bits that copy in fp32 (`step`)
        yield Part("gradients", element * share, f"{element} B × {part}", (STEP,), kind="gradients")
        if element != FP32:
            yield Part("flat gradients", element * share, f"{element} B × {part}", (STEP,), kind="gradients")
        yield Part("gradients in fp32", FP32 * share, f"4 B × {part}", (STEP,), kind="gradients")
    if stage == 1:
        # whole until the last micro batch: stage 1 reduces them then, and copies its share (`copy_grads_in_partition`)
        how = f"{element} B × {_count(trained)}"
        yield Part("gradients", element * trained, how, (FORWARD, BACKWARD), kind="gradients")
        if not offload:
            yield Part("reduced gradients", element * share, f"{element} B × {part}", (BACKWARD,), kind="gradients")
    elif not offload:
        # those added up so far, and those of this micro batch before they are added (`all_grad_tensors`)
        yield Part("gradients", element * share, f"{element} B × {part}", (FORWARD, BACKWARD), kind="gradients")
        yield Part("new gradients", element * share, f"{element} B × {part}", (BACKWARD,), kind="gradients")
    how = f"{buckets} × {element} B × {_count(bucket)}"
    yield Part("reduce buckets", buckets * element * bucket, how, (FORWARD, BACKWARD))
    # one that is above the bucket's size lies there until the next one comes
    pair = held.largest_pair(bucket)
    yield Part("one gradient", element * pair, f"{element} B × {_count(pair)}", (BACKWARD,))


def _offloaded(held: Held, ranks: int, stage: int, share: float, part: str, bucket: int) -> Iterator[Part]:
    """Stages 1 and 2 with the optimizer on the host: fp32 copy, moments and gradients, a 16-bit buffer for the way
    back, and two temporaries of the largest tensor (stage_1_and_2.py, `__init__`, `initialize_optimizer_states`).

    Gradients are copied to the host tensor by tensor. Before the last micro batch stage 2 frees none of its share until
    the backward pass has ended (`copy_grads_in_partition`), but those in a bucket are no memory of their own; in the
    last one each has its norm taken in fp64 (`set_norm_for_param_grad_in_gpu`).
    """
    element = held.element
    yield Part("master weights", FP32 * share, f"4 B × {part}", ALWAYS, host=True, kind="optimizer")
    yield Part("moments", 2 * FP32 * share, f"8 B × {part}", ALWAYS, host=True, kind="optimizer")
    yield Part("gradients in fp32", FP32 * share, f"4 B × {part}", ALWAYS, host=True, kind="gradients")
    yield Part("updated weights", element * share, f"{element} B × {part}", ALWAYS, host=True)
    how = f"{element} B × {_count(held.largest)}"
    yield Part("gradient on its way", element * held.largest, how, ALWAYS, host=True)
    yield Part("gradient on its way", element * held.largest, how, ALWAYS)
    norm, kept = FP64 * min(held.largest, share), 0.0
    if stage == 2:
        how = f"{element} B × {part}"
        yield Part("gradients added up", element * share, how, ALWAYS, host=True, kind="gradients")
        kept = element * held.whole_above(bucket) / ranks
    if kept > norm:
        how = f"{element} B × {_count(held.whole_above(bucket))} ÷ {ranks} in tensors above a bucket"
        yield Part("new gradients", kept, how, (BACKWARD,), kind="gradients")
    else:
        yield Part("norm of a gradient", norm, f"8 B × {_count(min(held.largest, share))}", (BACKWARD,))


def _stage_3(held: Held, zero: Mapping[str, Any], ranks: int) -> Iterator[Part]:
    element, mine, still = held.element, held.shares(ranks), held.shares(ranks, trained=False)
    part = f"{_count(held.trainable)} ÷ {ranks}"
    all_parts = f"{_count(held.trainable + held.still)} ÷ {ranks}"
    on_host = "offload_param" in zero
    optimizer_on_host = "offload_optimizer" in zero
    bucket = int(zero["reduce_bucket_size"])
    weights = element * (mine + still)
    yield Part("weights", weights, f"{element} B × {all_parts}", ALWAYS, host=on_host, kind="weights")
    if held.packed:
        shards = ranks if held.packed_shards else 1
        how = f"{held.packed_bytes:g} B × {_count(held.packed)} ÷ {shards}"
        size = held.packed_bytes * held.packed / shards
        yield Part("quantized weights", size, how, ALWAYS, host=on_host, kind="weights")
    if ranks > 1:
        whole = held.whole_below(int(zero["stage3_param_persistence_threshold"]))
        how = f"{element} B × {_count(whole)} in small tensors"
        yield Part("weights kept whole", element * whole, how, ALWAYS, kind="weights")
    group = int(zero.get("zero_hpz_partition_size", 1))
    if group > 1:
        second = element * (held.shares(group) + held.shares(group, trained=False))
        how = f"{element} B × {_count(held.trainable + held.still)} ÷ {group}"
        yield Part("weights of the node (hpZ)", second, how, ALWAYS, kind="weights")
    how = f"{element} B × {part}"
    yield Part("gradients", element * mine, how, ALWAYS, host=optimizer_on_host, kind="gradients")
    yield Part("master weights", FP32 * mine, f"4 B × {part}", ALWAYS, host=optimizer_on_host, kind="optimizer")
    yield Part("moments", 2 * FP32 * mine, f"8 B × {part}", ALWAYS, host=optimizer_on_host, kind="optimizer")
    if optimizer_on_host:
        yield Part("gradients in fp32", FP32 * mine, f"4 B × {part}", ALWAYS, host=True, kind="gradients")
    else:
        # of one sub-group at a time, first flat, then in fp32 (stage3.py, `_prepare_fp32_grad_for_sub_group`)
        group_size = min(mine, int(zero["sub_group_size"]))
        if element != FP32:
            how = f"{element} B × {_count(group_size)}"
            yield Part("flat gradients", element * group_size, how, (STEP,), kind="gradients")
        yield Part("gradients in fp32", FP32 * group_size, f"4 B × {_count(group_size)}", (STEP,), kind="gradients")
    yield Part("reduce bucket", element * bucket, f"{element} B × {_count(bucket)}", ALWAYS)
    if optimizer_on_host:
        # its norm is taken in fp64 before it is copied to the host (`_offload_grad_partition_at_boundary`)
        size = min(-(-held.largest // ranks), NORM_AT_ONCE)
        yield Part("norm of a gradient", FP64 * size, f"8 B × {_count(size)}", (BACKWARD,))
    # one above the size of a bucket lies there until the next one comes, and is reduced with a copy; so is a bucket of
    # smaller ones (`__avg_scatter_grads`)
    size = max(held.largest_pair(bucket) + held.largest, min(bucket, held.trainable - held.whole_above(bucket)))
    yield Part("gradients, reduced", element * size, f"{element} B × {_count(size)}", (BACKWARD,))
