"""What to change where memory ran out, on a GPU or on the host: what was expected, what was there, what would fit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from conf.estimate import Need
from conf.record import Plan
from conf.schema import Offload
from launcher.facts.gather import gather_model_alone
from launcher.plan.batch import largest_divisor
from launcher.plan.memory.changes import changes_that_fit
from launcher.plan.memory.estimate import GIB, model_states
from launcher.problems import ConfigurationError
from launcher.show.units import size
from launcher.why.change import Case, Change
from slurm import memory

MORE_MEMORY = 1.5
TERMS = 4
"""The largest terms of a peak that are named."""


def smaller_micro_batch(case: Case) -> list[Change]:
    """The next smaller micro batch that keeps the batch equation."""
    batch = case.plan.layout.batch
    if batch.micro_batch_size <= 1:
        return []
    half = batch.micro_batch_size // 2
    if case.plan.packing == "none":
        half = largest_divisor(batch.global_batch_size // batch.world_size, half)
    effect = f"about {half / batch.micro_batch_size:.0%} of the activations, the same loss"
    return [Change(effect, "train.per_device_train_batch_size", str(batch.micro_batch_size), str(half))]


def checkpointing(case: Case) -> list[Change]:
    """Recomputing activations."""
    if case.plan.config.train.gradient_checkpointing:
        return []
    effect = "activations of one layer at a time, about a quarter more time"
    return [Change(effect, "train.gradient_checkpointing", "false", "true")]


def next_stage(case: Case) -> list[Change]:
    """The next ZeRO stage, with the model states that a rank then holds."""
    plan, stage = case.plan, case.plan.config.parallel.zero_stage
    if stage >= 3 or plan.topology.world_size == 1:
        return []
    now, then = (_states(case, each) for each in (stage, stage + 1))
    effect = f"model states of a rank {now} → {then}" if now else "more of the model states is shared out"
    return [Change(effect, "parallel.zero_stage", str(stage), str(stage + 1))]


def offload(case: Case) -> list[Change]:
    """The optimizer in host memory."""
    parallel = case.plan.config.parallel
    if parallel.zero_stage == 0 or parallel.offload_optimizer is Offload.cpu:
        return []
    return [Change("optimizer states in host memory, slower steps", "parallel.offload_optimizer", "none", "cpu")]


def less_offload(case: Case) -> list[Change]:
    """What is offloaded, back on the GPU."""
    parallel = case.plan.config.parallel
    keys = (("offload_param", parallel.offload_param), ("offload_optimizer", parallel.offload_optimizer))
    return [
        Change("its part of the model states stays on the GPU", f"parallel.{name}", "cpu", "none")
        for name, value in keys
        if value is Offload.cpu
    ]


def what_fits(case: Case) -> list[Change]:
    """Changes after which the plan's own estimate fits, as far as it was off here; where it knows none, the usual
    ones."""
    usual = (smaller_micro_batch, checkpointing, next_stage, offload)
    return _fitting(case) or [change for remedy in usual for change in remedy(case)]


def _fitting(case: Case) -> list[Change]:
    plan, need = case.plan, case.plan.memory.device if case.plan.memory else None
    said = _said_by_torch(case.words)
    capacity = said.get("capacity") or (need.capacity if need else None)
    if need is None or not capacity:
        return []
    # what torch had and asked for, against what was expected: the same share is taken to be missing after a change
    had = said.get("allocated", 0.0) + said.get("asked", 0.0)
    below = min(capacity / max(1.0, had / need.peak.likely), need.peak.likely)
    config = replace(plan.config, cluster=replace(plan.config.cluster, gpu_memory_gib=capacity / GIB))
    try:
        found = changes_that_fit(config, gather_model_alone(config), below=below)
    except (ConfigurationError, OSError, KeyError, ValueError):  # a model that this machine cannot see any more
        return []
    return [_as_change(plan, change.overrides, f"a rank needs {size(change.likely)} at its peak") for change in found]


def _as_change(plan: Plan, overrides: tuple[str, ...], effect: str) -> Change:
    """One override with the value it has now; several together in words."""
    if len(overrides) > 1:
        return Change(f"{' '.join(overrides)}: {effect}")
    key, _, value = overrides[0].partition("=")
    if key == "parallel":
        return Change(effect, key, f"zero{plan.config.parallel.zero_stage}", value)
    if key == "train.per_device_train_batch_size":
        return Change(effect, key, str(plan.layout.batch.micro_batch_size), value)
    now: Any = plan.config
    for name in key.split("."):
        now = getattr(now, name)
    return Change(effect, key, str(getattr(now, "value", now)).lower(), value)


def predicted_memory(case: Case) -> list[Change]:
    """What was predicted of a rank against what torch says it had."""
    facts = []
    need = case.plan.memory.device if case.plan.memory else None
    predicted = _states(case, case.plan.config.parallel.zero_stage)
    if need is not None:
        facts += _expected("a rank", need)
    elif predicted:
        facts.append(f"predicted for a rank: {predicted} of model states; activations and buffers come on top")
    said = _said_by_torch(case.words)
    words = {"allocated": "allocated", "kept": "reserved but free", "asked": "more asked for"}
    measured = [f"{size(said[name])} {what}" for name, what in words.items() if name in said]
    if measured:
        whole = f", on a GPU of {size(said['capacity'])}" if "capacity" in said else ""
        facts.append(f"measured: {', '.join(measured)}{whole}")
    return [Change(fact) for fact in facts]


def predicted_host_memory(case: Case) -> list[Change]:
    """What was predicted of a node's host."""
    need = case.plan.memory.host if case.plan.memory else None
    return [Change(fact) for fact in _expected("a node", need)] if need is not None else []


def _expected(whose: str, need: Need) -> list[str]:
    """The peak with its band and largest terms, and the other moments."""
    peak, band = need.peak, f"{size(need.low)} to {size(need.high)}"
    largest = sorted(peak.terms, key=lambda term: -term.likely)[:TERMS]
    terms = ", ".join(f"{term.name} {size(term.likely)}" for term in largest if term.likely)
    others = ", ".join(f"{one.name} {size(one.likely)}" for one in need.moments if one is not peak)
    found = [f"predicted for {whose}: {size(peak.likely)} ({band}) at its peak, {peak.name}: {terms}"]
    return [*found, f"at other moments: {others}"] if others else found


_AMOUNT = r"([\d.]+) ?([kmgt]?)i?b"
_WORDS = {
    "asked": rf"tried to allocate {_AMOUNT}",
    "capacity": rf"total capacity of {_AMOUNT}",
    "allocated": rf"{_AMOUNT} is allocated by pytorch",
    "kept": rf"{_AMOUNT} is reserved by pytorch but unallocated",
}


def _said_by_torch(words: str) -> dict[str, float]:
    """Bytes in torch's message (`c10/cuda/CUDACachingAllocator.cpp`): asked for, capacity, allocated, kept."""
    found = {name: re.search(pattern, words, re.IGNORECASE) for name, pattern in _WORDS.items()}
    return {
        name: float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ") for name, match in found.items() if match
    }


def more_host_memory(case: Case) -> list[Change]:
    """More host memory of a node."""
    mem = case.plan.config.cluster.mem
    if case.plan.config.cluster.kind.value == "local":
        return []
    found = memory.FORM.fullmatch(mem or "")
    if mem is None:
        return [Change("memory of a node; without it the site's default", "cluster.mem", "null", "0 (all of the node)")]
    if not found or int(found[1]) == 0:
        return [Change(f"cluster.mem={mem} takes all of a node: more nodes, or nodes with more memory")]
    more = f"{int(int(found[1]) * MORE_MEMORY)}{found[2] or ''}"
    return [Change("memory of a node", "cluster.mem", mem, more)]


def fewer_ranks(case: Case) -> list[Change]:
    """Fewer ranks on the node, where its memory is all there is."""
    topology = case.plan.topology
    if case.plan.config.cluster.kind.value != "local" or topology.ranks_per_node == 1 or case.in_data_step:
        return []
    half = topology.ranks_per_node // 2
    return [
        Change("each rank has buffers of its own", "cluster.ranks_per_node", str(topology.ranks_per_node), str(half))
    ]


def fewer_workers(case: Case) -> list[Change]:
    """Fewer processes in the data step."""
    workers = case.plan.config.data.prepare_workers
    if not case.in_data_step or workers == 1:
        return []
    shown = str(workers) if workers else "0 (all cores)"
    return [Change("processes that prepare data, each with memory of its own", "data.prepare_workers", shown, "1")]


def _states(case: Case, stage: int) -> str:
    """Bytes of the model states of a rank at a stage, on its device; empty where no formula counts the model."""
    found = model_states(case.plan, stage)
    return "" if found is None else size(found)
