"""What a method excludes: ZeRO stages, offload, precision, and what it says of itself twice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from conf.adapters import SHARDED, UNSUPPORTED, has_virtual_tokens, needs_data, needs_whole_weights, peft_type
from conf.schema import MethodConfig, Offload, Quantization, RunConfig, TaskName
from launcher.check.libraries import model_types, peft_methods
from launcher.facts.facts import Facts
from launcher.plan.shapes.known import shape_by_formula
from launcher.plan.shapes.weights import Shape
from launcher.plan.targets import fused_targets, unmatched_targets
from launcher.problems import Problem, nearest

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Names under which config.json gives the number of layers."""


def method_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong between the method and everything else."""
    yield from _adapter_problems(config, facts)
    yield from _start_problems(config)
    if config.method.quantization is not Quantization.none:
        yield from _quantization_problems(config)
    yield from _freezing_problems(config.method, facts)
    shape = shape_by_formula(config, facts.model.config)
    if shape is not None:
        yield from _target_problems(config.method.peft, shape)
        yield from _pattern_problems(config, shape)
    for pattern, rate in config.optim.learning_rates.items():
        if not (math.isfinite(rate) and rate >= 0):
            yield Problem(f"optim.learning_rates.{pattern}", f"{rate:g}", "has to be a finite number from 0 on")


def _adapter_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    method, kind = config.method, peft_type(config.method.peft)
    if kind in UNSUPPORTED:
        reason, _, near = UNSUPPORTED[kind].partition("; ")
        yield Problem("method.peft.peft_type", kind, reason, near)
    elif kind in peft_methods() and kind not in SHARDED and config.parallel.zero_stage == 3:
        rule = f"leaves each rank a part of every weight, and {kind} looks at whole ones"
        yield Problem("parallel.zero_stage", "3", rule, "parallel=zero2, method=lora")
    for name in ("r", "num_virtual_tokens"):
        value = method.peft.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield Problem(f"method.peft.{name}", str(value), "has to be a whole number from 1 on", "16")
    if method.peft and method.unfreeze:
        rule = "does not go with an adapter, whose files would not hold what it trains"
        yield Problem("method.unfreeze", str(list(method.unfreeze)), rule, "method.peft.modules_to_save=[…]")
    if kind == "PREFIX_TUNING" and config.train.gradient_checkpointing:
        rule = "does not go with prefix tuning, whose keys and values are a cache that recomputation leaves out"
        yield Problem("train.gradient_checkpointing", "true", rule, "false")
    if kind in ("PROMPT_TUNING", "P_TUNING") and config.task.name is TaskName.seq_cls and _reads_onwards(facts):
        rule = "does not go with task=seq_cls on a causal model, whose head reads the last token and would read padding"
        yield Problem("method.peft.peft_type", kind, rule, "method=prefix_tuning, method=lora")
    yield from _virtual_token_problems(config, facts)
    if kind == "LORA" and fused_targets(method.peft.get("target_modules"), str(facts.model.config.get("model_type"))):
        yield from _expert_problems(method.peft)


def _expert_problems(peft: Mapping[str, Any]) -> Iterator[Problem]:
    """PEFT changes experts by the sum of their weights and its own (`ParamWrapper`), past which no input goes."""
    rule = "does not go with an adapter on experts, which PEFT adds to their fused weights"
    near = "target_modules=[q_proj, k_proj, v_proj, o_proj]"
    if peft.get("lora_dropout"):
        yield Problem("method.peft.lora_dropout", str(peft["lora_dropout"]), rule, f"0, method.peft.{near}")
    if peft.get("use_dora"):
        yield Problem("method.peft.use_dora", "true", rule, f"false, method.peft.{near}")


def _reads_onwards(facts: Facts) -> bool:
    """Whether each token of the model sees only those before it."""
    kind = str(facts.model.config.get("model_type") or "")
    return kind in model_types("causal_lm") and kind not in model_types("masked_lm")


def _virtual_token_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Learned tokens take positions of the model."""
    positions: Any = facts.model.config.get("max_position_embeddings") or facts.model.config.get("n_positions")
    tokens = config.method.peft.get("num_virtual_tokens")
    if not has_virtual_tokens(config.method.peft) or not isinstance(tokens, int) or not isinstance(positions, int):
        return
    length = config.data.max_length
    if 1 < positions < length + tokens and length <= positions:
        rule = f"and {tokens} virtual tokens are more than the model's {positions} positions"
        yield Problem("data.max_length", str(length), rule, str(positions - tokens))


def _start_problems(config: RunConfig) -> Iterator[Problem]:
    """Ways to draw an adapter that look at more than its own shape."""
    start, key = config.method.peft.get("init_lora_weights"), "method.peft.init_lora_weights"
    if needs_data(start):
        yield Problem(key, str(start), "draws the adapter from batches of data before training", "true, pissa")
    elif needs_whole_weights(start) and config.parallel.zero_stage == 3:
        rule = "decomposes whole weights, and parallel.zero_stage=3 leaves each rank a part of them"
        yield Problem(key, str(start), rule, "true, parallel=zero2")
    elif needs_whole_weights(start) and config.method.quantization is not Quantization.none:
        rule = f"decomposes the weights as they are, and method.quantization={config.method.quantization.value}"
        yield Problem(key, str(start), f"{rule} leaves rounded ones", "true, method.quantization=none")


def _quantization_problems(config: RunConfig) -> Iterator[Problem]:
    kind, parallel = config.method.quantization, config.parallel
    if not config.method.peft:
        rule = "keeps weights that cannot be trained, so that it needs an adapter over them"
        yield Problem("method.quantization", kind.value, rule, "method=qlora, none")
    if parallel.offload_param is Offload.cpu:
        rule = f"does not go with method.quantization={kind.value}, whose kernels want the weights on the device"
        yield Problem("parallel.offload_param", "cpu", rule, "parallel=zero3")
    if parallel.hpz_partition_size != 1:
        rule = f"copies weights in their own type, and method.quantization={kind.value} packs them"
        yield Problem("parallel.hpz_partition_size", str(parallel.hpz_partition_size), rule, "1")
    if kind is Quantization.int8 and parallel.zero_stage == 3:
        rule = "cannot shard method.quantization=int8: bitsandbytes holds on to whole 8-bit weights"
        yield Problem("parallel.zero_stage", "3", rule, "parallel=zero2, method.quantization=nf4")


def _freezing_problems(method: MethodConfig, facts: Facts) -> Iterator[Problem]:
    key, count = "method.freeze_layers", method.freeze_layers
    if count < 0:
        yield Problem(key, str(count), "has to be a number from 0 on", "0")
    if "*" in method.freeze and not method.unfreeze:
        rule = "matches every parameter, and nothing is left to train"
        yield Problem("method.freeze", "*", rule, "method.unfreeze=['*head*']")
    known = [facts.model.config[name] for name in LAYERS if isinstance(facts.model.config.get(name), int)]
    if known and count > known[0]:
        yield Problem(key, str(count), f"is more than the model's {known[0]} layers", str(max(0, known[0] - 1)))
    if method.peft and count:
        rule = "freezes layers of the model, and with an adapter all of them are frozen"
        yield Problem(key, str(count), rule, "0, method.peft.layers_to_transform=[…]")


def _target_problems(peft: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    """Layers that an adapter shall change, and the model does not have."""
    key, targets = "method.peft.target_modules", peft.get("target_modules")
    known = list(dict.fromkeys(weight.module.rpartition(".")[2] for weight in shape.weights if weight.outputs))
    try:
        missing = unmatched_targets(peft, shape)
    except re.error as error:
        yield Problem(key, str(targets), f"is no regular expression: {error}", f"[{', '.join(known)}]")
        return
    if isinstance(targets, list | tuple) and len(missing) < len(targets):
        return  # a list for models of several kinds, of which the plan warns
    rule = "matches no module of the model"
    if isinstance(targets, str):
        rule = f"is a pattern for a module's whole name, and {rule}"
    for name in missing:
        close = name if name in known else nearest(name, known, 1) or ", ".join(known)
        yield Problem(key, name, rule, f"[{close}]")


def _pattern_problems(config: RunConfig, shape: Shape) -> Iterator[Problem]:
    """Patterns that match no parameter; beside an adapter they may mean its own."""
    method, names = config.method, [weight.name for weight in shape.weights]
    if method.peft:
        return
    given = [("method.freeze", pattern) for pattern in method.freeze]
    given += [("method.unfreeze", pattern) for pattern in method.unfreeze]
    given += [("optim.learning_rates", pattern) for pattern in config.optim.learning_rates]
    parts = list(dict.fromkeys(part for name in names for part in name.split(".")[:-1] if not part.isdecimal()))
    for key, pattern in given:
        if not any(fnmatchcase(name, pattern) for name in names):
            close = nearest(pattern.strip("*?."), parts) or ", ".join(parts)
            near = ", ".join(f"*{part}*" for part in close.split(", "))
            yield Problem(key, pattern, f"matches none of the model's {len(names)} parameters", near)
