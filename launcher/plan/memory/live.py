"""Weights that ZeRO-3 has gathered at the turn from forward to backward, where activations are highest.

DeepSpeed releases a weight after its use unless it is used again within `stage3_max_reuse_distance` elements of the
order in which modules run (partitioned_param_coordinator.py, `__params_to_release`): on the way to the loss and back
every weight above lies twice, with gradient checkpointing three times. Ahead of use it gathers a prefetch bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conf.estimate import Term
from conf.schema import RunConfig
from launcher.plan.memory.held import Held
from launcher.plan.shapes.weights import Shape


def gathered(shape: Shape | None, held: Held, zero: Mapping[str, Any], config: RunConfig, ranks: int) -> list[Term]:
    """The gathered weights of a rank; none below stage 3 or on one rank."""
    if int(zero.get("stage", 0)) < 3 or ranks == 1:
        return []
    prefetch, longest = int(zero["stage3_prefetch_bucket_size"]), int(zero["stage3_max_reuse_distance"])
    most = int(zero["stage3_max_live_parameters"])
    threshold = int(zero["stage3_param_persistence_threshold"])
    passes = 3 if config.train.gradient_checkpointing else 2
    sizes = shape.sizes if shape else [held.trainable + held.still]
    above, near = 0, 0
    for size in reversed(sizes):
        if above and passes * above >= longest:
            break
        above += size
        near += size if size > threshold else 0
    layer = max(shape.largest_layer if shape else 0, held.largest_of_all)
    likely = max(near, layer) + prefetch
    high = max(likely, min(sum(sizes), most) + prefetch)
    low = held.element * (layer + prefetch)
    how = "used again soon, and a prefetch bucket"
    return [Term("gathered weights", held.element * likely, low, held.element * min(high, 2 * likely), how, "buffers")]
