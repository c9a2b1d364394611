"""AdamW over what is trained, weight decay on matrices alone, learning rates by pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from conf.schema import Offload, OptimConfig, ParallelConfig
from train.engine import cpu_adam
from train.methods.names import first_match, plain_name, require_matches
from train.model.parameters import whole_shape


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], optim: OptimConfig) -> list[dict[str, Any]]:
    """Groups of what is trained: by peak learning rate, and in each decayed matrices before undecayed vectors (norms,
    biases). The first group has `optim.learning_rate` where anything has it; a group without parameters is left out.

    Raises:
        PatternError: a pattern of `optim.learning_rates` matches nothing that is trained.
    """
    trained = [(plain_name(name), parameter) for name, parameter in named if parameter.requires_grad]
    require_matches("optim.learning_rates", optim.learning_rates, [name for name, _ in trained])
    patterns: list[str | None] = [None, *optim.learning_rates]
    groups: dict[tuple[str | None, bool], list[nn.Parameter]] = {
        (pattern, matrices): [] for pattern in patterns for matrices in (True, False)
    }
    for name, parameter in trained:
        groups[first_match(name, optim.learning_rates), len(whole_shape(parameter)) >= 2].append(parameter)
    return [
        {
            "params": parameters,
            "lr": optim.learning_rate if pattern is None else optim.learning_rates[pattern],
            "weight_decay": optim.weight_decay if matrices else 0.0,
        }
        for (pattern, matrices), parameters in groups.items()
        if parameters
    ]


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
    groups = parameter_groups(model.named_parameters(), optim)
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
