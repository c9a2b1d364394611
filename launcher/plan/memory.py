"""Bytes of the model states of a rank: weights, gradients and optimizer. Activations and buffers come on top.

Per parameter, after the ZeRO paper (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1): in bf16 and fp16 2 bytes
of weights, 2 of gradients and 12 of optimizer (fp32 copy, two moments); in fp32 4, 4 and 8, and with a stage above 0 4
more, since DeepSpeed keeps its own fp32 copy there as well. Real engines of every stage hold so much within 2 %
(`tests/dist/test_memory_states.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import Offload, ParallelConfig, Precision
from launcher.show.units import size


@dataclass(frozen=True)
class ModelStates:
    """Bytes of a rank by what they are, and which of them are offloaded to host memory."""

    weights: float
    gradients: float
    optimizer: float
    weights_on_host: bool = False
    optimizer_on_host: bool = False

    @property
    def host(self) -> float:
        """Bytes in host memory because they are offloaded."""
        return self.weights * self.weights_on_host + self.optimizer * self.optimizer_on_host

    @property
    def device(self) -> float:
        """Bytes on the rank's device."""
        return self.weights + self.gradients + self.optimizer - self.host


def model_states(parameters: int, parallel: ParallelConfig, precision: Precision, ranks: int) -> ModelStates:
    """Model states of one of `ranks` ranks that train so many parameters."""
    stage = parallel.zero_stage
    own_copy = 4 if stage > 0 else 0
    each = (4, 4, 8 + own_copy) if precision is Precision.fp32 else (2, 2, 12)
    weights, gradients, optimizer = (
        parameters * bytes_each / (ranks if stage >= sharded_from else 1)
        for bytes_each, sharded_from in zip(each, (3, 2, 1), strict=True)
    )
    if stage == 3 and parallel.hpz_partition_size > 1:
        weights += parameters * each[0] / parallel.hpz_partition_size
    return ModelStates(
        weights,
        gradients,
        optimizer,
        weights_on_host=parallel.offload_param is Offload.cpu,
        optimizer_on_host=parallel.offload_optimizer is Offload.cpu,
    )


def in_words(states: ModelStates) -> str:
    """The line a plan shows."""
    host = f" and {size(states.host)} of host memory" if states.host else ""
    return f"model states only (weights, gradients, optimizer): {size(states.device)} a rank{host}"
