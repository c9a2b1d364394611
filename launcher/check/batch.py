"""The batch equation, and what ZeRO's stages and DeepSpeed's raw keys exclude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from conf.schema import Offload, Packing, Precision, RunConfig
from launcher.check.deepspeed_keys import TOP_KEYS, ZERO_KEYS
from launcher.facts.facts import Facts
from launcher.plan.batch import nearest_global
from launcher.plan.plan import resolve_packing
from launcher.plan.topology import gpus_per_node, make_topology
from launcher.plan.zero import auto_keys
from launcher.problems import Problem, nearest

REFUSED_KEYS = {
    "train_batch_size": "is Muster's: train.global_batch_size says it",
    "train_micro_batch_size_per_gpu": "is Muster's: train.per_device_train_batch_size says it",
    "gradient_accumulation_steps": "is Muster's: train.gradient_accumulation_steps says it",
    "gradient_clipping": "is Muster's: optim.max_grad_norm says it",
    "gradient_predivide_factor": "does nothing in stages 0 and 1 and fails in 2 and 3",
    "prescale_gradients": "does nothing in stages 0 and 1 and fails in 2 and 3",
    "optimizer": "is Muster's: optim.* says it",
    "scheduler": "is Muster's: schedule.* says it",
    "bf16.enabled": "is Muster's: train.precision says it",
    "fp16.enabled": "is Muster's: train.precision says it",
    "amp": "is not supported: train.precision=bf16",
    "torch_autocast": "is Muster's: train.precision says it",
    "zero_optimization.stage": "is Muster's: parallel.zero_stage says it",
    "zero_optimization.offload_optimizer.device": "is Muster's: parallel.offload_optimizer says it",
    "zero_optimization.offload_param.device": "is Muster's: parallel.offload_param says it",
    "zero_optimization.zero_hpz_partition_size": "is Muster's: parallel.hpz_partition_size says it",
    "zero_allow_untested_optimizer": "is Muster's, which gives DeepSpeed its own optimizer",
    "elasticity": "is not supported: Muster resumes on another world size by itself",
    "autotuning": "is not supported: it starts runs of its own",
    "wandb": "is Muster's: tracking.* says it",
    "tensorboard": "is not supported: metrics.jsonl has every metric",
    "csv_monitor": "is not supported: metrics.jsonl has every metric",
}
"""Raw DeepSpeed keys that contradict what Muster writes, with what to do instead."""


def world_size_of(config: RunConfig, facts: Facts) -> int:
    """Ranks of the run; 0 where nodes or ranks are impossible."""
    if config.cluster.nodes < 1 or (config.cluster.ranks_per_node or 1) < 1:
        return 0
    return make_topology(config.cluster, facts)[0].world_size


def packs(config: RunConfig, facts: Facts) -> bool:
    """Whether documents will be packed; where not, the batch equation holds to the document."""
    return resolve_packing(config, str(facts.model.config.get("model_type", "")))[0] != Packing.none.value


def batch_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """global = micro × accumulation × ranks, and the multiples that come near."""
    train, world = config.train, world_size_of(config, facts)
    micro, accumulation = train.per_device_train_batch_size, train.gradient_accumulation_steps
    given = [number for number in (micro, accumulation) if number is not None]
    if world < 1 or train.global_batch_size < 1 or any(number < 1 for number in given):
        return
    key, value = "train.global_batch_size", train.global_batch_size
    if value < world:
        yield Problem(key, str(value), f"gives some of the {world} ranks no document", str(world))
    if packs(config, facts) and len(given) < 2:
        return
    words = [f"micro {micro}"] if micro else []
    words += [f"accumulation {accumulation}"] if accumulation else []
    words.append(f"{world} rank{'s' if world > 1 else ''}")
    unit = math.prod(given) * world
    product = " × ".join(words) + (f" = {unit}" if given else "")
    if len(given) == 2 and value != unit:
        yield Problem(key, str(value), f"is not {product}", str(unit))
    elif value % unit and value >= world:
        multiples = ", ".join(str(number) for number in nearest_global(value, unit))
        yield Problem(key, str(value), f"is not a multiple of {product}", multiples)


def parallel_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What stages, offload, hpZ and precision exclude."""
    parallel, stage = config.parallel, config.parallel.zero_stage
    offloads = parallel.offload_param is Offload.cpu or parallel.offload_optimizer is Offload.cpu
    if parallel.offload_param is Offload.cpu and stage != 3:
        rule = f"needs parallel.zero_stage=3, not {stage}: only stage 3 shards the weights"
        yield Problem("parallel.offload_param", "cpu", rule, "parallel=zero3_offload")
    if parallel.offload_optimizer is Offload.cpu and stage == 0:
        rule = "needs parallel.zero_stage of 1, 2 or 3: stage 0 shards nothing"
        yield Problem("parallel.offload_optimizer", "cpu", rule, "parallel=zero2_offload")
    if parallel.hpz_partition_size != 1:
        yield from _hpz_problems(config, facts, stage, offloads)
    if config.train.precision is Precision.fp16 and gpus_per_node(config.cluster, facts) == 0:
        yield Problem("train.precision", "fp16", "needs GPUs, and these ranks compute on CPUs", "bf16, fp32")
    yield from _raw_problems(parallel.deepspeed)


def _hpz_problems(config: RunConfig, facts: Facts, stage: int, offloads: bool) -> Iterator[Problem]:
    given, world = config.parallel.hpz_partition_size, world_size_of(config, facts)
    key = "parallel.hpz_partition_size"
    if stage != 3:
        yield Problem(key, str(given), f"needs parallel.zero_stage=3, not {stage}", "1")
    if offloads:
        yield Problem(key, str(given), "does not go with offload, which has broken training together with it", "1")
    if given > 1 and world and (given > world or world % given):
        divisors = [number for number in range(1, world + 1) if world % number == 0]
        close = sorted(divisors, key=lambda number: abs(number - given))[:2]
        rule = f"does not divide the {world} ranks"
        yield Problem(key, str(given), rule, ", ".join(str(number) for number in sorted(close)))


def _raw_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    for key in auto_keys(raw):
        rule = "is a value that nothing resolves here; leave the key out and Muster writes the number"
        yield Problem(f"parallel.deepspeed.{key}", "auto", rule)
    for key, rule in REFUSED_KEYS.items():
        value: Any = raw
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and value != "auto":
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            yield Problem(f"parallel.deepspeed.{key}", shown, rule)
    for key in raw:
        if key not in TOP_KEYS:
            rule = "is not a key of DeepSpeed, which would ignore it without a word"
            yield Problem(f"parallel.deepspeed.{key}", str(raw[key]), rule, nearest(key, TOP_KEYS))
    zero = raw.get("zero_optimization", {})
    if not isinstance(zero, Mapping):
        yield Problem("parallel.deepspeed.zero_optimization", str(zero), "has to be a mapping")
        return
    for key in zero:
        if key not in ZERO_KEYS:
            rule = "is not a key of DeepSpeed's zero_optimization"
            yield Problem(f"parallel.deepspeed.zero_optimization.{key}", str(zero[key]), rule, nearest(key, ZERO_KEYS))
