"""Bytes of the model states of a rank: weights, gradients and optimizer, nothing else.

Formula: Rajbhandari et al., ZeRO (2020), section 3 and 5; 16-bit training keeps fp32 master weights and two moments.
Activations, buffers and the libraries' own memory come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import Offload, ParallelConfig, Precision

GIB = 2**30


@dataclass(frozen=True)
class ModelStates:
    """Bytes of a rank: on its device, and in host memory where states are offloaded."""

    device: float
    host: float


def model_states(parameters: int, parallel: ParallelConfig, precision: Precision, ranks: int) -> ModelStates:
    """Model states of one of `ranks` ranks that train `parameters` parameters."""
    each = (4, 4, 8) if precision is Precision.fp32 else (2, 2, 12)
    weights, gradients, optimizer = (size * parameters for size in each)
    shared = [
        part / ranks if parallel.zero_stage >= stage else part
        for part, stage in ((weights, 3), (gradients, 2), (optimizer, 1))
    ]
    on_host = [parallel.offload_param is Offload.cpu, False, parallel.offload_optimizer is Offload.cpu]
    return ModelStates(
        sum(part for part, host in zip(shared, on_host, strict=True) if not host),
        sum(part for part, host in zip(shared, on_host, strict=True) if host),
    )


def in_words(states: ModelStates) -> str:
    """The line a plan shows."""
    host = f" and {gib(states.host)} of host memory" if states.host else ""
    return f"model states only (weights, gradients, optimizer): {gib(states.device)} a rank{host}"


def gib(size: float) -> str:
    """Bytes as GiB, or MiB where that is shorter."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"
