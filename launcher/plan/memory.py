"""Bytes of the model states of a rank: weights, gradients and optimizer. Activations and buffers come on top.

Per trained parameter, after the ZeRO paper (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1): in bf16 and fp16
2 bytes of weights, 2 of gradients and 12 of optimizer (fp32 copy, two moments); in fp32 4, 4 and 8, and with a stage
above 0 4 more, since DeepSpeed keeps its own fp32 copy there as well. Real engines of every stage hold so much within
2 % (`tests/dist/test_memory_states.py`). What is not trained has weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import Offload, ParallelConfig, Precision, Quantization
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


@dataclass(frozen=True)
class Trained:
    """What of a model's parameters is trained: so many (None: all), beside the model where they are an adapter's; and
    how many of the frozen ones are kept in 4 or 8 bits."""

    trainable: int | None = None
    beside: bool = False
    quantized: int = 0
    quantization: Quantization = Quantization.none


BYTES_QUANTIZED = {
    Quantization.none: 0.0,
    Quantization.nf4: 0.5 + 4 / 64,
    Quantization.fp4: 0.5 + 4 / 64,
    Quantization.int8: 1.0,
}
"""Bytes of a weight in bitsandbytes' types: 4 bits have an fp32 scale for each 64 weights."""


def model_states(
    parameters: int, parallel: ParallelConfig, precision: Precision, ranks: int, trained: Trained | None = None
) -> ModelStates:
    """Model states of one of `ranks` ranks. What is frozen has weights alone; without `trained` nothing is."""
    trained = trained or Trained()
    trainable = parameters if trained.trainable is None else trained.trainable
    stage = parallel.zero_stage
    own_copy = 4 if stage > 0 else 0
    each = (4, 4, 8 + own_copy) if precision is Precision.fp32 else (2, 2, 12)
    whole = parameters - trained.quantized + (trainable if trained.beside else 0)
    weight_bytes = whole * each[0] + trained.quantized * BYTES_QUANTIZED[trained.quantization]
    amounts = (weight_bytes, trainable * each[1], trainable * each[2])
    weights, gradients, optimizer = (
        amount / (ranks if stage >= sharded_from else 1)
        for amount, sharded_from in zip(amounts, (3, 2, 1), strict=True)
    )
    if stage == 3 and parallel.hpz_partition_size > 1:
        weights += weight_bytes / parallel.hpz_partition_size
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
