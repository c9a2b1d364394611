"""Which parameters a run trains, weight by weight, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from conf.adapters import has_virtual_tokens
from conf.schema import MethodConfig, Quantization, RunConfig, TaskName
from launcher.plan.adapter import adapter_of, bound_of
from launcher.plan.shapes.weights import Group, Shape, Weight
from launcher.plan.targets import saved_whole


@dataclass(frozen=True)
class Trained:
    """What is trained: the model's `own` weights, and the sizes of those that an adapter brings along (`beside`).

    `frozen` are the model's other weights; `targets`, `kept` and `made` are those of the adapter. `counted` is false
    where the adapter is one that no formula knows, and `beside` a bound.
    """

    own: tuple[Weight, ...] = ()
    frozen: tuple[Weight, ...] = ()
    beside: tuple[int, ...] = ()
    targets: tuple[Weight, ...] = ()
    kept: int = 0
    made: int = 0
    counted: bool = True

    @property
    def parameters(self) -> int:
        """All trained parameters."""
        return sum(weight.size for weight in self.own) + sum(self.beside)


def trained_of(config: RunConfig, shape: Shape, model: Mapping[str, Any]) -> Trained | None:
    """What is trained of the model in `shape`; None where what is frozen is not told by its weights' names.

    Args:
        model: the content of config.json.
    """
    method = config.method
    if not method.peft:
        return _own(method, shape)
    classifies = config.task.name is TaskName.seq_cls
    heads = [weight.size for weight in shape.weights if weight.group is Group.head] if classifies else []
    saved = saved_whole(shape, method.peft)
    copies = [one for one in saved or () if not (classifies and one.group is Group.head)]
    names = {weight.name for weight in copies}
    # what is trained as a whole is never quantised: its original, which stays, is no matrix to pack
    frozen = tuple(one._replace(inputs=0, outputs=0) if one.name in names else one for one in shape.weights)
    adapter = None if method.freeze or method.freeze_layers else adapter_of(method.peft, shape, model)
    beside = (*(weight.size for weight in copies), *heads)
    if adapter is None or saved is None or (heads and has_virtual_tokens(method.peft)):
        return Trained(frozen=frozen, beside=(bound_of(method.peft, shape.parameters), *beside), counted=False)
    return Trained((), frozen, (*adapter.sizes, *beside), adapter.targets, adapter.kept, adapter.made)


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
