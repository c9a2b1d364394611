"""Weights that ZeRO-3 has gathered: at the turn from forward to backward, where activations are highest, and later.

At each module DeepSpeed gathers a prefetch bucket more of the weights that come next, and modules without weights count
as well: a Llama layer has 13 modules and 7 matrices. So it runs ahead until `stage3_max_live_parameters` elements are
there, and does not release what it has come across once more on the way back (partitioned_param_coordinator.py,
`_fetch_sub_module_impl`, `__params_to_release`). A bound that is not reached yet lets one more tensor in, however
large: at the turn that is the head, after which nothing comes but what is there.

What it releases is given back only where nothing else holds it. transformers multiplies with a view of all experts of a
layer (integrations/moe.py, `_grouped_linear`), and autograd keeps that view until the layer's backward pass: without
gradient checkpointing all experts of the model are there at once, on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conf.estimate import Term
from conf.schema import TrainConfig
from launcher.plan.memory.held import Held
from launcher.plan.shapes.weights import Group, Shape


def gathered(
    shape: Shape | None,
    held: Held,
    zero: Mapping[str, Any],
    train: TrainConfig,
    ranks: int,
    turn: bool = False,
    made: bool = False,
) -> list[Term]:
    """The gathered weights of a rank, at the turn or in the backward pass; none below stage 3, and on one rank those
    that lie on the host alone.

    Args:
        made: experts are multiplied as an adapter makes them anew, which autograd keeps instead.
    """
    if int(zero.get("stage", 0)) < 3 or (ranks == 1 and "offload_param" not in zero):
        return []
    element, prefetch = held.element, int(zero["stage3_prefetch_bucket_size"])
    most, threshold = int(zero["stage3_max_live_parameters"]), int(zero["stage3_param_persistence_threshold"])
    sizes = shape.sizes if shape else [held.trainable + held.still]
    whole = sum(size for size in sizes if size > threshold)
    layer = max(shape.largest_layer if shape else 0, held.largest_of_all)
    ahead = most + held.largest_of_all * turn
    live = max(min(whole, ahead), min(whole, layer))
    experts = 0 if made else kept_experts(shape, train)
    kept = min(whole, experts + max(0, live - layer)) if experts else 0
    likely = max(live, kept)
    low, high = min(likely, max(kept, layer + prefetch)), min(whole, max(likely, most + held.largest_of_all))
    bound = "stage3_max_live_parameters" + " and the largest tensor" * (turn and ahead < whole)
    how = f"{element} B × {_gathered_words(live, bound, experts)}"
    return [Term("gathered weights", element * likely, element * low, element * high, how, "buffers")]


def kept_experts(shape: Shape | None, train: TrainConfig) -> int:
    """Elements of the experts in layers whose activations are kept."""

    def again(layer: int | None) -> bool:
        return train.gradient_checkpointing and (layer or 0) % train.gradient_checkpointing_interval == 0

    weights = shape.weights if shape else ()
    return sum(one.size for one in weights if one.group is Group.experts and not again(one.layer))


def _gathered_words(live: int, bound: str, experts: int) -> str:
    from launcher.show.units import count

    ahead = f"{count(live)} ahead ({bound})"
    return f"{ahead}, {count(experts)} of experts until their backward pass" if experts else ahead
