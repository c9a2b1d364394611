"""AdamW over the model's parameters, weight decay on matrices alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from conf.schema import Offload, OptimConfig, ParallelConfig
from train.engine import cpu_adam, whole_shape


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups, decayed matrices and undecayed vectors (norms, biases); an empty one is left out."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for _, parameter in named:
        if parameter.requires_grad:
            (matrices if len(whole_shape(parameter)) >= 2 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(
    model: nn.Module,
    optim: OptimConfig,
    parallel: ParallelConfig,
    device: torch.device,
    agree: Callable[[bool], bool],
) -> tuple[Optimizer, str]:
    """The optimizer and what it is, in words.

    Args:
        agree: whether a flag is true on every rank: all of them take DeepSpeed's CPU Adam, or none does.
    """
    groups = parameter_groups(model.named_parameters(), optim.weight_decay)
    arguments: dict[str, Any] = {
        "lr": optim.learning_rate,
        "betas": (optim.adam_beta1, optim.adam_beta2),
        "eps": optim.adam_epsilon,
    }
    if device.type != "cuda":
        # Offload moves nothing here, and DeepSpeed's own takes minutes to compile.
        return torch.optim.AdamW(groups, **arguments), "torch AdamW"
    if parallel.offload_optimizer is Offload.none:
        return torch.optim.AdamW(groups, fused=True, **arguments), "torch AdamW, fused"
    optimizer, reason = cpu_adam(groups, **arguments)
    if agree(optimizer is not None) and optimizer is not None:
        return optimizer, "DeepSpeed's CPU Adam"
    reason = reason or "another rank could not build DeepSpeed's"
    words = f"torch AdamW on the CPU, fused, slower than DeepSpeed's: {reason}"
    return torch.optim.AdamW(groups, fused=True, **arguments), words
