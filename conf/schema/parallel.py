"""How DeepSpeed ZeRO shards the model states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from conf.schema.key import key


class Offload(Enum):
    """Where DeepSpeed keeps a part of the model states."""

    none = "none"
    cpu = "cpu"


@dataclass
class ParallelConfig:
    """How DeepSpeed ZeRO shards the model states. `parallel=zero0 … zero3_hpz`, or `auto`."""

    zero_stage: int = key(
        3,
        "0 replicates everything; 1 shards optimizer states, 2 also gradients, 3 also weights. Lowest that fits "
        "is fastest.",
    )
    offload_optimizer: Offload = key(
        Offload.none,
        "`cpu` keeps optimizer states in host memory: less GPU memory, slower steps.",
    )
    offload_param: Offload = key(Offload.none, "`cpu` keeps weights in host memory as well; stage 3 only.")
    hpz_partition_size: int = key(
        1,
        "Ranks that keep a second copy of the weights between them (ZeRO++ hpZ), so that gathers stay in a node. "
        "1: off; 0: ranks per node.",
    )
    auto: list[str] = key(
        [],
        "Keys that Muster chooses, so that the run takes the least GPU-hours of all ways that fit: `parallel=auto` "
        "names ZeRO stage, offload, hpZ, micro batch and gradient checkpointing. A key that you give is kept.",
    )
    deepspeed: dict[str, Any] = key(
        {},
        "Raw DeepSpeed keys, merged over what Muster wrote; the plan shows the difference.",
    )
