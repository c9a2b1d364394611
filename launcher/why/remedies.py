"""What to change, in keys and values: from the plan of the run and the words of its failure.

Each function of `REMEDIES` looks at one key and answers with nothing where that key cannot help.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from conf.schema import Offload, Precision
from launcher.plan.batch import largest_divisor
from launcher.plan.memory import Trained, model_states
from launcher.show.units import duration, size
from launcher.why.change import Case, Change

MORE_MEMORY = 1.5
SAFE_LEAD = 2.0
"""Times the longest save seen, as a lead before the time limit."""


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
    predicted = _states(case, case.plan.config.parallel.zero_stage)
    if predicted:
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


def fewer_workers(case: Case) -> list[Change]:
    """Fewer processes in the data step."""
    workers = case.plan.config.data.prepare_workers
    if not case.in_data_step or workers == 1:
        return []
    shown = str(workers) if workers else "0 (all cores)"
    return [Change("processes that prepare data, each with memory of its own", "data.prepare_workers", shown, "1")]


def full_folder(case: Case) -> list[Change]:
    """The folder that is full, by the path in the error, else the places a run writes to; with what is free now."""
    named = re.search(
        r"no space left on device: ['\"]?(/[^'\"\n]+)|quota exceeded: ['\"]?(/[^'\"\n]+)", case.words, re.I
    )
    config = case.plan.config
    where = Path(named[1] or named[2]) if named else None
    places = {"named by the error": where} if where else {
        "run_root": Path(case.plan.run_dir),
        "data.cache_dir": Path(config.data.cache_dir).expanduser() if config.data.cache_dir else None,
        "cluster.scratch": Path(config.cluster.scratch),
    }  # fmt: skip
    return [Change(f"{name}: {_free(path)}") for name, path in places.items() if path is not None]


def fewer_checkpoints(case: Case) -> list[Change]:
    """Fewer checkpoints kept."""
    limit = case.plan.config.checkpoint.save_total_limit
    if limit <= 1:
        return []
    return [Change("room for one more is needed while it is written", "checkpoint.save_total_limit", str(limit), "1")]


def gentler(case: Case) -> list[Change]:
    """A lower learning rate, clipping, a longer warm-up."""
    config = case.plan.config
    rate = config.optim.learning_rate
    changes = [Change("the usual cause", "optim.learning_rate", f"{rate:g}", f"{rate / 3:.1g}")]
    if config.optim.max_grad_norm <= 0:
        changes.append(Change("clips gradients", "optim.max_grad_norm", "0", "1.0"))
    if config.schedule.warmup_steps < 0.1:
        changes.append(Change("a longer warm-up", "schedule.warmup_steps", f"{config.schedule.warmup_steps:g}", "0.1"))
    return changes


def wider_numbers(case: Case) -> list[Change]:
    """bf16 instead of fp16."""
    if case.plan.config.train.precision is not Precision.fp16:
        return []
    return [Change("fp16 overflows beyond 65504", "train.precision", "fp16", "bf16")]


def missing_package(case: Case) -> list[Change]:
    """Which package, for which Python."""
    python = case.plan.config.cluster.python or "the Python that Muster runs with"
    found = re.search(r"no module named ['\"]([\w.]+)", case.words, re.IGNORECASE)
    if found is None:
        return [Change(f"looked for by {python}")]
    package = found[1].partition(".")[0]
    program = case.plan.config.cluster.python or "python"
    return [Change(f"{package} is missing in {python}: `{program} -m pip install {package.replace('_', '-')}`")]


def local_model(case: Case) -> list[Change]:
    """A folder instead of a name on the hub."""
    name = case.plan.config.model.model_name_or_path
    if not name or Path(name).is_dir():
        return []
    effect = "a folder that every node sees"
    return [Change(effect, "model.model_name_or_path", name, f"/shared/models/{name.rpartition('/')[2]}")]


def checkpoints_there(case: Case) -> list[Change]:
    """The checkpoints that are there."""
    steps = ", ".join(map(str, case.saved)) or "none"
    return [Change(f"checkpoints that are there: {steps}, in {case.plan.run_dir}/checkpoints")]


def leave_out_host(case: Case) -> list[Change]:
    """The node left out."""
    failure, cluster = case.failure, case.plan.config.cluster
    if failure is None or not failure.host or cluster.kind.value == "local":
        return []
    excluded = [name for name in (cluster.exclude, failure.host) if name]
    return [Change("not on this node", "cluster.exclude", cluster.exclude or "null", ",".join(excluded))]


def save_more_often(case: Case) -> list[Change]:
    """Saving more often, from the steps that were lost."""
    every = case.plan.config.checkpoint.save_steps
    if case.lost_steps < 2:
        return []
    fewer = max(1, case.lost_steps // 2 if every == 0 else min(every // 2, case.lost_steps))
    shown = f"{every} (at the end alone)" if every == 0 else str(every)
    if every and fewer >= every:
        return []
    return [Change(f"{case.lost_steps} steps were done again or lost", "checkpoint.save_steps", shown, str(fewer))]


def longer_lead(case: Case) -> list[Change]:
    """A lead that covers the longest save seen."""
    lead = case.plan.config.cluster.signal_lead_s
    if case.save_s is None or case.save_s * SAFE_LEAD < lead:
        return []
    effect = f"a save took {duration(case.save_s)}"
    return [Change(effect, "cluster.signal_lead_s", str(lead), str(round(case.save_s * SAFE_LEAD) + 60))]


def phase_limit(case: Case) -> list[Change]:
    """The limit of the phase that stood still."""
    limits = case.plan.config.health.limits_s
    found = re.search(r"progress for \d+ s in (prepare|load|train|evaluate|save|export)\b", case.words)
    if found is None:
        return []
    now = float(getattr(limits, found[1]))
    return [Change("only if it was slow, not stuck", f"health.limits_s.{found[1]}", f"{now:g}", f"{2 * now:g}")]


REMEDIES: dict[str, Callable[[Case], list[Change]]] = {
    remedy.__name__: remedy
    for remedy in (
        smaller_micro_batch,
        checkpointing,
        next_stage,
        offload,
        less_offload,
        predicted_memory,
        more_host_memory,
        fewer_workers,
        full_folder,
        fewer_checkpoints,
        gentler,
        wider_numbers,
        missing_package,
        local_model,
        checkpoints_there,
        leave_out_host,
        save_more_often,
        longer_lead,
        phase_limit,
    )
}


def _states(case: Case, stage: int) -> str:
    """Bytes of the model states of a rank at a stage, on its device; empty where no formula counts the model."""
    plan = case.plan
    if plan.parameters is None:
        return ""
    method, precision = plan.config.method, plan.config.train.precision
    trained = Trained(plan.trainable_parameters, bool(method.peft), plan.quantized_parameters, method.quantization)
    parallel = replace(plan.config.parallel, zero_stage=stage)
    return size(model_states(plan.parameters, parallel, precision, plan.topology.world_size, trained).device)


def _free(path: Path) -> str:
    """What is free where a path lies, or would lie."""
    here = path
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        found = os.statvfs(here)
    except OSError as error:
        return f"{path} ({error.strerror})"
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f"{path} has {size(free)} of {size(whole)} free here now"
