"""What a rank trains and keeps, in elements: the numbers that all terms of its memory start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from conf.schema import Precision, Quantization, RunConfig
from launcher.plan.adapter import bound_of
from launcher.plan.shapes.weights import Group, Shape
from launcher.plan.trainable import Trained

BYTES_QUANTIZED = {
    Quantization.none: 0.0,
    Quantization.nf4: 0.5 + 4 / 64,
    Quantization.fp4: 0.5 + 4 / 64,
    Quantization.int8: 1.0,
}
"""Bytes of a weight in bitsandbytes' types: 4 bits have an fp32 scale for each 64 weights
(Dettmers et al. 2023, arXiv 2305.14314, section 3; bitsandbytes/functional.py, `quantize_4bit`)."""

BYTES = {Precision.bf16: 2, Precision.fp16: 2, Precision.fp32: 4}
"""Bytes of an element in the precision of the forward and backward pass."""


@dataclass(frozen=True)
class Held:
    """Sizes of tensors: `trained` ones, those that are `frozen` in `element` bytes, and `packed` into 4 or 8 bits.
    `twice` are elements of a trained weight that is embedding and head at once."""

    element: int
    trained: tuple[int, ...]
    frozen: tuple[int, ...] = ()
    packed: int = 0
    packed_bytes: float = 0.0
    packed_shards: bool = True
    twice: int = 0

    @cached_property
    def trainable(self) -> int:
        """Trained elements."""
        return sum(self.trained)

    @cached_property
    def still(self) -> int:
        """Frozen elements that are kept in the training's precision."""
        return sum(self.frozen)

    @cached_property
    def largest(self) -> int:
        """Elements of the largest trained tensor."""
        return max(self.trained, default=0)

    @cached_property
    def largest_of_all(self) -> int:
        """Elements of the largest tensor, trained or not."""
        return max((*self.trained, *self.frozen), default=0)

    def shares(self, ranks: int, trained: bool = True) -> int:
        """Elements of one of `ranks` equal shares, each tensor rounded up (`_aligned_size`)."""
        return sum(-(-size // ranks) for size in (self.trained if trained else self.frozen))

    def whole_below(self, threshold: int) -> int:
        """Elements of the tensors that ZeRO-3 gathers once and keeps: those of at most `threshold`
        (parameter_offload.py, `mark_persistent_parameters`)."""
        return sum(size for size in (*self.trained, *self.frozen) if size <= threshold)

    def largest_pair(self, size: int) -> int:
        """Elements of the largest trained tensor, or of two in a row that are both above `size`."""
        pairs = (a + b for a, b in pairwise(self.trained) if min(a, b) > size)
        return max(self.largest, max(pairs, default=0))

    def whole_above(self, size: int) -> int:
        """Trained elements in tensors of more than `size`."""
        return sum(one for one in self.trained if one > size)


def held_of(config: RunConfig, shape: Shape, trained: Trained) -> Held:
    """What a run holds of a model that is known weight by weight."""
    method = config.method
    element = BYTES[config.train.precision]
    frozen, packed = [], 0
    for weight in trained.frozen:
        if weight.outputs and method.quantization is not Quantization.none:
            packed += weight.size
        else:
            frozen.append(weight.size)
    mine = tuple(weight.size for weight in trained.own) + trained.beside
    shards = method.quantization is not Quantization.int8
    tables = [weight.size for weight in trained.own if weight.group is Group.embedding]
    twice = max(tables, default=0) if shape.tied else 0
    return Held(element, mine, tuple(frozen), packed, BYTES_QUANTIZED[method.quantization], shards, twice)


def guessed(config: RunConfig, parameters: int, trainable: int | None, quantized: int) -> Held:
    """What a run holds of a model of which only numbers are known: as if each part were one tensor."""
    element = BYTES[config.train.precision]
    bytes_packed = BYTES_QUANTIZED[config.method.quantization]
    if trainable is None:
        trainable = bound_of(config.method.peft, parameters) if config.method.peft else parameters
    frozen = parameters - quantized - (0 if config.method.peft else trainable)
    return Held(element, (trainable,), (max(0, frozen),), quantized, bytes_packed)
