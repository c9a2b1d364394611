"""Freezing by pattern and by number of layers. Works on a loaded model before its optimizer is made."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from conf.outcome import Cause
from conf.schema import MethodConfig
from train.methods.names import first_match, plain_name, require_matches


class FrozenError(Exception):
    """The configuration freezes what is not there, or leaves nothing to train."""

    cause = Cause.config


def freeze(model: nn.Module, method: MethodConfig) -> None:
    """Mark what `freeze_layers`, `freeze` and `unfreeze` say, in this order.

    Raises:
        PatternError: a pattern matches no parameter.
        FrozenError: there are fewer layers, or nothing is left to train.
    """
    named = [(plain_name(name), parameter) for name, parameter in model.named_parameters()]
    require_matches("method.freeze", method.freeze, [name for name, _ in named])
    require_matches("method.unfreeze", method.unfreeze, [name for name, _ in named])
    if method.freeze_layers:
        for parameter in first_layers(model, method.freeze_layers):
            parameter.requires_grad_(False)
    for name, parameter in named:
        if first_match(name, method.freeze) is not None:
            parameter.requires_grad_(False)
        if first_match(name, method.unfreeze) is not None:
            parameter.requires_grad_(True)
    if not any(parameter.requires_grad for _, parameter in named):
        given = [key for key in ("freeze_layers", "freeze") if getattr(method, key)]
        words = " and ".join(f"method.{key}" for key in given) or f"method={method.name}"
        raise FrozenError(f"{words} leaves no parameter to train; method.unfreeze=[…] takes patterns out again")


def first_layers(model: nn.Module, count: int) -> Iterator[nn.Parameter]:
    """Parameters of the embeddings and of the first `count` layers of each stack.

    Raises:
        FrozenError: a stack has fewer layers.
    """
    stacks = dict(layer_stacks(model))
    shortest = min((len(stack) for stack in stacks.values()), default=0)
    if count > shortest:
        found = ", ".join(f"{name} ({len(stack)})" for name, stack in stacks.items()) or "no list of layers"
        raise FrozenError(f"method.freeze_layers={count} is more than the model has: {found}")
    for stack in stacks.values():
        for layer in list(stack)[:count]:
            yield from layer.parameters()
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{stack}.") for stack in stacks)
        # BERT and its kin keep positions, token types and a norm in one module called embeddings.
        if not inside and (isinstance(module, nn.Embedding) or name.rpartition(".")[2] == "embeddings"):
            yield from module.parameters()


def layer_stacks(model: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    """The outermost lists of modules with parameters: a model's layers; of an encoder-decoder both stacks."""
    outer: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{one}.") for one in outer):
            continue
        if next(module.parameters(), None) is not None:
            outer.append(name)
            yield name, module
