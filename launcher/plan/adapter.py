"""What an adapter of PEFT brings along, method by method, before anything is loaded: sizes of its tensors.

Every formula is compared with what PEFT makes (`tests/unit/test_shapes.py`). Where there is none, `bound_of` is more
than adapters usually have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from conf.adapters import FUSED_EXPERTS, IA3_MODULES, peft_type
from launcher.plan.shapes.decoders import FAMILIES, of_family, sizes_of
from launcher.plan.shapes.known import hidden_size
from launcher.plan.shapes.weights import Group, Shape, Weight
from launcher.plan.targets import fused_targets, is_changed

_CHOOSING = frozenset({"peft_type", "target_modules", "modules_to_save", "exclude_modules", "layers_to_transform"})
"""Keys that say which modules are changed (`launcher.plan.targets`)."""

_COUNTED = {
    "LORA": _CHOOSING | {"r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "bias", "init_lora_weights"},
    "IA3": _CHOOSING - {"layers_to_transform"} | {"feedforward_modules", "init_ia3_weights"},
    "PROMPT_TUNING": {"peft_type", "num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text"},
    "PREFIX_TUNING": {"peft_type", "num_virtual_tokens", "prefix_projection", "encoder_hidden_size", "init_weights"},
    "P_TUNING": {"peft_type", "num_virtual_tokens", "encoder_hidden_size", "encoder_dropout", "encoder_num_layers"},
}
"""Keys of a method under which its formula holds."""

_DEFAULT_RANK = 8
BOUND = 0.02
"""Of the model's parameters, for each `_BOUND_RANK` of an adapter's rank: four times what LoRA has on all linear layers
of Llama-3.1-8B."""

_BOUND_RANK = 16


@dataclass(frozen=True)
class Adapter:
    """Sizes of the trained tensors beside the model's own, and the linear layers (`targets`) that are changed.

    For its backward pass the adapter keeps `kept` elements of a token, without what dropout keeps, and `made` weights
    that it makes anew of frozen ones.
    """

    sizes: tuple[int, ...]
    targets: tuple[Weight, ...] = ()
    kept: int = 0
    made: int = 0


def adapter_of(peft: Mapping[str, Any], shape: Shape, model: Mapping[str, Any]) -> Adapter | None:
    """The adapter on the model in `shape`; None where it is not counted by formula.

    Args:
        model: the content of config.json.
    """
    kind = peft_type(peft)
    if kind not in _COUNTED or not peft.keys() <= _COUNTED[kind] or peft.get("bias", "none") != "none":
        return None
    if kind == "LORA":
        return _lora(peft, shape, str(model.get("model_type")))
    if kind == "IA3":
        return _ia3(peft, shape, str(model.get("model_type")))
    width, tokens = hidden_size(model), int(peft.get("num_virtual_tokens") or 0)
    if not width or not tokens:
        return None
    sides = len(shape.stacks)
    if kind == "PROMPT_TUNING":
        return Adapter((width * tokens,) * sides)
    inner = peft.get("encoder_hidden_size")
    if kind == "P_TUNING":
        return Adapter((width * tokens * sides, *_layers(width, int(inner or width), int(inner or width), width)))
    return _prefix(peft, shape, model, tokens) if sides == 1 else None


def bound_of(peft: Mapping[str, Any], parameters: int) -> int:
    """Parameters that an adapter without a formula is taken to train."""
    rank = peft.get("r")
    times = max(1.0, rank / _BOUND_RANK) if isinstance(rank, int) else 1.0
    return min(parameters, int(BOUND * times * parameters))


def _lora(peft: Mapping[str, Any], shape: Shape, model_type: str) -> Adapter | None:
    """Of each matrix that is changed r × inputs and outputs × r; DoRA has the length of each output beside."""
    targets, rank = peft.get("target_modules"), int(peft.get("r") or _DEFAULT_RANK)
    if targets is None:
        return None
    fused, named = FUSED_EXPERTS.get(model_type, {}), fused_targets(targets, model_type)
    if (fused and isinstance(targets, str) and not named) or (named and peft.get("exclude_modules")):
        return None
    chosen = [one for one in shape.weights if is_changed(one, targets, peft) and _leaf(one.module) not in named]
    sizes = [size for weight in chosen for size in (rank * weight.inputs, rank * weight.outputs)]
    kept, made = rank * len(chosen), 0
    if peft.get("use_dora"):
        sizes += [weight.outputs for weight in chosen]
        kept += 2 * sum(weight.outputs for weight in chosen)  # the base's result and LoRA's (tuners/lora/dora.py)
    ranks = {new: rank * sum(fused[name] == new for name in named) for new in fused.values()}
    for weight in shape.weights:
        each = next((ranks[new] for new in ranks if weight.name.endswith(f".{new}")), 0)
        if each and (weight.group is Group.experts or len(weight.shape) == 2):
            *experts, outputs, inputs = weight.shape
            each *= experts[0] if experts else 1
            made += weight.size if experts else 0  # `ParamWrapper` multiplies with the sum of both
            sizes += [each * inputs, each * outputs]
    if not sizes or (made and peft.get("use_dora")):  # which PEFT refuses
        return None
    return Adapter(tuple(sizes), tuple(chosen), kept, made)


def _leaf(module: str) -> str:
    return module.rpartition(".")[2]


def _ia3(peft: Mapping[str, Any], shape: Shape, model_type: str) -> Adapter | None:
    """A factor for each output, in the feed-forward layer for each input; what it multiplies is kept."""
    targets, feedforward = peft.get("target_modules"), peft.get("feedforward_modules")
    if targets is None:
        targets, feedforward = IA3_MODULES.get(model_type, (None, None))
    if targets is None or isinstance(targets, str) or isinstance(feedforward, str):
        return None
    chosen = [weight for weight in shape.weights if is_changed(weight, targets, peft)]
    inwards = {weight.name for weight in chosen if weight.module.endswith(tuple(feedforward or ()))}
    sizes = tuple(weight.inputs if weight.name in inwards else weight.outputs for weight in chosen)
    return Adapter(sizes, kept=sum(sizes)) if sizes else None


def _prefix(peft: Mapping[str, Any], shape: Shape, model: Mapping[str, Any], tokens: int) -> Adapter | None:
    """Keys and values of each token and layer, as wide as the model's own; projected from a smaller table or not."""
    kind = str(model.get("model_type"))
    if kind in FAMILIES:
        width = sizes_of(of_family(model, FAMILIES[kind])).keys
    elif kind in ("gpt2", "gpt_neox"):
        width = hidden_size(model) or 0
    else:
        return None
    out = 2 * shape.stacks[0] * width
    if not peft.get("prefix_projection"):
        return Adapter((tokens * out,))
    return Adapter((tokens * width, *_layers(width, int(peft.get("encoder_hidden_size") or width), out)))


def _layers(*widths: int) -> list[int]:
    """Weights and biases of linear layers in a row."""
    return [size for inputs, outputs in pairwise(widths) for size in (inputs * outputs, outputs)]
