"""Which modules of a model an adapter changes, which it leaves out, and which it trains as a whole. As PEFT chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conf.adapters import FUSED_EXPERTS, peft_type
from launcher.plan.shapes.weights import Group, Shape, Weight

ALL_LINEAR = "all-linear"
_OTHER_TARGETS = frozenset({"ADAPTION_PROMPT", "TRAINABLE_TOKENS"})
"""Methods whose `target_modules` are no names of layers."""

_TIED = ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")
"""Modules that a model may have without weights of their own: those of its embeddings."""


def is_target(module: str, targets: object) -> bool:
    """As PEFT chooses: a text is a pattern for the whole name, a list has names or their ends."""
    if isinstance(targets, str):
        return targets.lower() == ALL_LINEAR or re.fullmatch(targets, module) is not None
    names = targets if isinstance(targets, list | tuple) else []
    return any(module == name or module.endswith(f".{name}") for name in names)


def is_changed(weight: Weight, targets: object, peft: Mapping[str, Any]) -> bool:
    """Whether an adapter on `targets` changes the linear layer of a weight: one that is neither left out
    (`exclude_modules`, `layers_to_transform`) nor trained as a whole (`modules_to_save`)."""
    module, excluded, layers = weight.module, peft.get("exclude_modules"), peft.get("layers_to_transform")
    if not weight.outputs or not is_target(module, targets):
        return False
    if excluded and (re.fullmatch(excluded, module) if isinstance(excluded, str) else is_target(module, excluded)):
        return False
    saved = peft.get("modules_to_save") or ()
    if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in saved):
        return False
    return layers in (None, []) or weight.layer in ([layers] if isinstance(layers, int) else layers)


def fused_targets(targets: object, model_type: str) -> list[str]:
    """Names among `targets` that LoRA takes for weights of experts and their router (`conf.adapters.FUSED_EXPERTS`)."""
    names = targets if isinstance(targets, list | tuple) else []
    every = isinstance(targets, str) and targets.lower() == ALL_LINEAR
    return [one for one in FUSED_EXPERTS.get(model_type, {}) if every or any(is_target(name, [one]) for name in names)]


def saved_whole(shape: Shape, peft: Mapping[str, Any]) -> list[Weight] | None:
    """The weights of `modules_to_save`, of which PEFT trains a copy; None where a name means what is tied."""
    names = peft.get("modules_to_save") or ()
    tied = _TIED if len(shape.stacks) > 1 else _TIED[:1] if shape.tied else ()
    if names and any(module.endswith(name) for module in tied for name in names):
        return None
    return [one for one in shape.weights if any(path.endswith(name) for path in _paths(one) for name in names)]


def _paths(weight: Weight) -> Iterator[str]:
    """The weight's module and all that it lies in."""
    module = weight.module
    while module:
        yield module
        module = module.rpartition(".")[0]


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
