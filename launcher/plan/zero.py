"""DeepSpeed's JSON: every number explicit, no "auto", the person's own keys laid over it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from conf.record import Batch, Device, Topology
from conf.schema import Offload, Precision, RunConfig
from launcher.plan.content import difference, flatten

UNKNOWN_HIDDEN_SIZE = 4096
SMALLEST_BUCKET, LEAST_AHEAD = 1 << 24, 1 << 20
"""Elements that are reduced at a time, or gathered ahead, at least: by the hidden size alone small models would have a
collective for each few parameters (a step of 3.5M parameters on two CPU ranks took 4 % longer by buckets of 2²⁰)."""

NEVER = 1 << 30


def bucket_elements(hidden_size: int) -> int:
    """Elements that are reduced at a time: hidden size squared, the rule of Hugging Face's integration, or more."""
    return max(hidden_size * hidden_size, SMALLEST_BUCKET)


def deepspeed_json(config: RunConfig, topology: Topology, batch: Batch, hidden_size: int | None) -> dict[str, Any]:
    """What Muster writes and the person's `parallel.deepspeed` over it."""
    return merged(own_json(config, topology, batch, hidden_size or UNKNOWN_HIDDEN_SIZE), config.parallel.deepspeed)


def own_json(config: RunConfig, topology: Topology, batch: Batch, hidden_size: int) -> dict[str, Any]:
    """What Muster writes for one world size.

    Accumulation is 1 because Muster sets the boundary of a step itself: the number of micro batches may vary by step,
    and the loss is scaled by the step's own target tokens.
    """
    precision = config.train.precision
    written: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": batch.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": float(config.optim.max_grad_norm),
        "zero_optimization": _zero(config, topology, batch, hidden_size),
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": precision is Precision.bf16},
        "fp16": {"enabled": precision is Precision.fp16},
        "torch_autocast": {"enabled": False},
        "steps_per_print": NEVER,
        "wall_clock_breakdown": False,
    }
    if precision is Precision.bf16:
        # a step with NaN would be skipped without a word; Muster's own check of the gradient norm names it
        written["bf16"]["check_grad_overflow"] = False
    if precision is Precision.fp16:
        written["fp16"] |= {"loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000, "min_loss_scale": 1}
    if config.parallel.offload_optimizer is Offload.cpu:
        written["zero_force_ds_cpu_optimizer"] = False
    return written


def merged(written: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `written`, block by block."""
    result = copy.deepcopy(dict(written))
    for name, value in over.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def difference_lines(config: RunConfig, topology: Topology, batch: Batch, hidden_size: int | None) -> list[str]:
    """What the person's keys change in what Muster writes, a line each."""
    before = own_json(config, topology, batch, hidden_size or UNKNOWN_HIDDEN_SIZE)
    after = merged(before, config.parallel.deepspeed)
    return [f"parallel.deepspeed: {line}" for line in difference(flatten(before), flatten(after))]


def auto_keys(deepspeed: Mapping[str, Any]) -> list[str]:
    """Dotted keys whose value is "auto", which nothing here resolves."""
    return [name for name, value in flatten(deepspeed).items() if value == "auto"]


def _zero(config: RunConfig, topology: Topology, batch: Batch, hidden_size: int) -> dict[str, Any]:
    parallel = config.parallel
    bucket = bucket_elements(hidden_size)
    zero: dict[str, Any] = {
        "stage": parallel.zero_stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    pin_memory = topology.device is Device.gpu
    if parallel.offload_optimizer is Offload.cpu:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pin_memory}
    if parallel.zero_stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": max(hidden_size * hidden_size, LEAST_AHEAD) * 9 // 10,
            "stage3_param_persistence_threshold": 10 * hidden_size,
            "stage3_max_live_parameters": 10**9,
            "stage3_max_reuse_distance": 10**9,
            "sub_group_size": 10**9,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
        if parallel.offload_param is Offload.cpu:
            zero["offload_param"] = {"device": "cpu", "pin_memory": pin_memory}
        zero["zero_hpz_partition_size"] = hpz_size(parallel.hpz_partition_size, topology, batch.world_size)
    return zero


def hpz_size(given: int, topology: Topology, world_size: int) -> int:
    """Ranks that share a second copy of the weights: as given, 0 is a node's ranks, 1 where they do not divide."""
    size = min(given or topology.ranks_per_node, world_size)
    return size if world_size % size == 0 else 1
