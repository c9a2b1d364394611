"""Which parameters a run trains, weight by weight, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from conf.adapters import peft_type
from conf.schema import MethodConfig, Quantization, RunConfig, TaskName
from launcher.plan.shapes.weights import Group, Shape, Weight

ALL_LINEAR = "all-linear"
_COUNTED_LORA = frozenset(
    {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora", "bias"}
)
_COUNTED_PROMPT = frozenset({"peft_type", "num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text"})
_DEFAULT_RANK = 8
_OTHER_TARGETS = frozenset({"ADAPTION_PROMPT", "TRAINABLE_TOKENS"})
"""Methods whose `target_modules` are no names of layers."""

_TIED = ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")
"""Modules that a model may have without weights of their own: those of its embeddings."""

_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})


@dataclass(frozen=True)
class Trained:
    """What is trained: the model's `own` weights, and the sizes of those that an adapter brings along (`beside`).

    `frozen` are the model's other weights, `targets` those of the linear layers under an adapter of `rank`.
    """

    own: tuple[Weight, ...] = ()
    frozen: tuple[Weight, ...] = ()
    beside: tuple[int, ...] = ()
    targets: tuple[Weight, ...] = ()
    rank: int = 0

    @property
    def parameters(self) -> int:
        """All trained parameters."""
        return sum(weight.size for weight in self.own) + sum(self.beside)


def trained_of(config: RunConfig, shape: Shape, width: int | None) -> Trained | None:
    """What is trained of the model in `shape`; None where the method is not counted by formula.

    Args:
        width: hidden size of the model.
    """
    method = config.method
    if not method.peft:
        return _own(method, shape)
    if method.freeze or method.unfreeze or method.freeze_layers:
        return None
    kind = peft_type(method.peft)
    heads = [weight.size for weight in shape.weights if weight.group is Group.head]
    heads = heads if config.task.name is TaskName.seq_cls else []
    if kind == "LORA" and method.peft.keys() <= _COUNTED_LORA and method.peft.get("bias", "none") == "none":
        return _lora(method, shape, heads)
    if kind == "PROMPT_TUNING" and method.peft.keys() <= _COUNTED_PROMPT and width and not heads:
        sides = 2 if config.task.name is TaskName.seq2seq_lm else 1
        tokens = int(method.peft.get("num_virtual_tokens") or 0)
        return Trained(frozen=shape.weights, beside=(width * tokens,) * sides) if tokens else None
    return None


def quantized_parameters(config: RunConfig, shape: Shape | None, parameters: int | None) -> int:
    """Parameters that are kept in 4 or 8 bits: the matrices; where they are not known, all as the nearest guess."""
    if config.method.quantization is Quantization.none:
        return 0
    if shape is None:
        return parameters or 0
    return sum(weight.size for weight in shape.weights if weight.outputs)


def _own(method: MethodConfig, shape: Shape) -> Trained | None:
    """As `train.methods.freezing` marks them: the first layers, then patterns that freeze, then those that do not."""
    if any(method.freeze_layers > layers for layers in shape.stacks):
        return None
    kept: list[Weight] = []
    frozen_ones: list[Weight] = []
    for weight in shape.weights:
        frozen = method.freeze_layers > 0 and (
            weight.group is Group.embedding or (weight.layer is not None and weight.layer < method.freeze_layers)
        )
        frozen = (frozen or _matches(weight.name, method.freeze)) and not _matches(weight.name, method.unfreeze)
        (frozen_ones if frozen else kept).append(weight)
    return Trained(tuple(kept), tuple(frozen_ones))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _lora(method: MethodConfig, shape: Shape, heads: list[int]) -> Trained | None:
    """Of each matrix that is changed r × inputs and outputs × r; DoRA has the length of each output beside."""
    targets = method.peft.get("target_modules")
    if targets is None or (shape.of(Group.experts) and not _is_attention(targets)):
        return None
    rank = int(method.peft.get("r") or _DEFAULT_RANK)
    chosen = [weight for weight in shape.weights if weight.outputs and is_target(weight.module, targets)]
    beside = [size for weight in chosen for size in (rank * weight.inputs, rank * weight.outputs)]
    if method.peft.get("use_dora"):
        beside += [weight.outputs for weight in chosen]
    if not chosen:
        return None
    return Trained(frozen=shape.weights, beside=(*beside, *heads), targets=tuple(chosen), rank=rank)


def _is_attention(targets: object) -> bool:
    """Whether only attention is changed: PEFT turns other targets of a model with experts into its fused weights."""
    return isinstance(targets, list | tuple) and all(name in _ATTENTION for name in targets)


def unmatched_targets(peft: Mapping[str, Any], shape: Shape) -> list[str]:
    """Of an adapter's `target_modules` those that no module of the model matches; none where PEFT looks elsewhere.

    Raises:
        re.error: a pattern is no regular expression.
    """
    targets = peft.get("target_modules")
    if peft_type(peft) in _OTHER_TARGETS or shape.of(Group.experts):
        return []
    modules = [*_TIED, *dict.fromkeys(weight.module for weight in shape.weights)]
    if isinstance(targets, str):
        return [] if any(is_target(module, targets) for module in modules) else [targets]
    names = targets if isinstance(targets, list | tuple) else []
    return [str(name) for name in names if not any(is_target(module, [name]) for module in modules)]


def is_target(module: str, targets: object) -> bool:
    """As PEFT chooses: a text is a pattern for the whole name, a list has names or their ends."""
    if isinstance(targets, str):
        return targets.lower() == ALL_LINEAR or re.fullmatch(targets, module) is not None
    names = targets if isinstance(targets, list | tuple) else []
    return any(module == name or module.endswith(f".{name}") for name in names)
