"""What to change where memory ran out, on a GPU or on the host: the batch, what is kept where, and for how much."""

from __future__ import annotations

import re

from conf.schema import Offload
from launcher.plan.batch import largest_divisor
from launcher.plan.memory.estimate import model_states
from launcher.show.units import size
from launcher.why.change import Case, Change

MORE_MEMORY = 1.5


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


def predicted_memory(case: Case) -> list[Change]:
    """What was predicted against what torch says it had."""
    facts = []
    need = case.plan.memory.device if case.plan.memory else None
    predicted = _states(case, case.plan.config.parallel.zero_stage)
    if need is not None:
        band = f"{size(need.low)} to {size(need.high)}"
        facts.append(f"predicted for a rank: {size(need.peak.likely)} ({band}) at its peak, {need.peak.name}")
    elif predicted:
        facts.append(f"predicted for a rank: {predicted} of model states; activations and buffers come on top")
    asked = re.search(r"tried to allocate ([\d.]+ [kmgt]?i?b)", case.words, re.IGNORECASE)
    whole = re.search(r"total capacity of ([\d.]+ [kmgt]?i?b)", case.words, re.IGNORECASE)
    used = re.search(r"([\d.]+ [kmgt]?i?b) is allocated by pytorch", case.words, re.IGNORECASE)
    kept = re.search(r"([\d.]+ [kmgt]?i?b) is reserved by pytorch but unallocated", case.words, re.IGNORECASE)
    said = [
        f"{found[1]} {what}"
        for found, what in ((used, "allocated"), (kept, "reserved but free"), (asked, "more asked for"))
        if found
    ]
    if said:
        facts.append(f"measured: {', '.join(said)}" + (f", on a GPU of {whole[1]}" if whole else ""))
    return [Change(fact) for fact in facts]


def more_host_memory(case: Case) -> list[Change]:
    """More host memory of a node."""
    mem = case.plan.config.cluster.mem
    if case.plan.config.cluster.kind.value == "local":
        return []
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", mem or "", re.IGNORECASE)
    if mem is None:
        return [Change("memory of a node; without it the site's default", "cluster.mem", "null", "0 (all of the node)")]
    if not found or float(found[1]) == 0:
        return [Change(f"cluster.mem={mem} takes all of a node: more nodes, or nodes with more memory")]
    more = f"{int(float(found[1]) * MORE_MEMORY)}{found[2]}"
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
