"""A model as the list of its weights: each with the name, the shape and the part that transformers gives it.

Tied weights stand once, as in `named_parameters`. Everything that is counted of a model is counted over this list:
parameters by group, what a method trains, what ZeRO-3 keeps whole, the bytes of a rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

Config = Mapping[str, Any]
"""The content of a config.json."""


class Group(Enum):
    """The part of a model that a weight belongs to."""

    embedding = "embedding"
    layers = "layers"
    experts = "experts"
    rest = "rest"
    head = "head"


class Weight(NamedTuple):
    """A parameter of a model.

    `layer` is its place in its stack, None outside the layers. `inputs` and `outputs` are those of a linear layer that
    an adapter on all linear layers changes; 0 for everything else, biases and the head among it.
    """

    name: str
    shape: tuple[int, ...]
    group: Group
    layer: int | None = None
    inputs: int = 0
    outputs: int = 0

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def module(self) -> str:
        """Name of the module that the weight belongs to."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Shape:
    """A model's weights. `stacks` are the numbers of layers: of an encoder with a decoder two."""

    weights: tuple[Weight, ...]
    stacks: tuple[int, ...]
    tied: bool = False

    @cached_property
    def parameters(self) -> int:
        """All parameters, each once."""
        return sum(weight.size for weight in self.weights)

    @cached_property
    def sizes(self) -> list[int]:
        """Elements of each weight."""
        return [weight.size for weight in self.weights]

    @cached_property
    def groups(self) -> dict[Group, int]:
        """Parameters by group; a group without any is left out."""
        found: dict[Group, int] = {}
        for weight in self.weights:
            found[weight.group] = found.get(weight.group, 0) + weight.size
        return found

    def of(self, group: Group) -> int:
        """Parameters of one group."""
        return self.groups.get(group, 0)

    @cached_property
    def largest_layer(self) -> int:
        """Parameters of the largest single layer; the embedding or head where they are alone."""
        return max(self.layer_sizes, default=0)

    @cached_property
    def layer_sizes(self) -> list[int]:
        """Parameters of each layer, stack after stack."""
        found: dict[tuple[str, int], int] = {}
        for weight in self.weights:
            if weight.layer is not None:
                stack = weight.name.partition(f".{weight.layer}.")[0]
                found[stack, weight.layer] = found.get((stack, weight.layer), 0) + weight.size
        return list(found.values())


def given(config: Config, defaults: Config) -> dict[str, Any]:
    """`config` over `defaults`, without its nulls."""
    return {**defaults, **{name: value for name, value in config.items() if value is not None}}


def linear(
    name: str, inputs: int, outputs: int, biased: bool = False, group: Group = Group.layers, layer: int | None = None
) -> Iterator[Weight]:
    """The weights of a linear layer that an adapter may change."""
    yield Weight(f"{name}.weight", (outputs, inputs), group, layer, inputs, outputs)
    if biased:
        yield Weight(f"{name}.bias", (outputs,), group, layer)


def norm(
    name: str, size: int, biased: bool = False, group: Group = Group.layers, layer: int | None = None
) -> Iterator[Weight]:
    """The weights of a norm."""
    yield Weight(f"{name}.weight", (size,), group, layer)
    if biased:
        yield Weight(f"{name}.bias", (size,), group, layer)


def table(name: str, rows: int, width: int) -> Weight:
    """An embedding."""
    return Weight(f"{name}.weight", (rows, width), Group.embedding)


def head(name: str, inputs: int, outputs: int, biased: bool = False) -> Iterator[Weight]:
    """A layer of the head, which no adapter on all linear layers changes."""
    yield Weight(f"{name}.weight", (outputs, inputs), Group.head)
    if biased:
        yield Weight(f"{name}.bias", (outputs,), Group.head)
