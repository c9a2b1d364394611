"""Floating-point operations of a token, and what a GPU can do: the two sides of MFU.

The convention is `conf.flops`'; here it is counted over the parameters of a model that is there, in
`launcher.plan.time.model` over its shape alone. Packed weights count by the shape they stand for.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from conf import flops
from conf.gpus import peak_by_name
from train.data.documents import IntArray
from train.model.parameters import whole_shape


def peak_operations(device: torch.device) -> float | None:
    """Dense bf16 operations a second of a GPU we know, else None."""
    if device.type != "cuda":
        return None
    return peak_by_name(torch.cuda.get_device_name(device))


def mean_context(lengths: IntArray) -> float:
    """Length of the document that a token of the data is in, on average."""
    total = float(lengths.sum(dtype="int64"))
    return float((lengths.astype("float64") ** 2).sum()) / total if total else 0.0


def operations_per_token(model: nn.Module, config: Any, context: float, written: float = 1.0) -> float:
    """Operations of forward and backward for a token in documents of `context` tokens.

    `written` is the share of tokens that a decoder behind an encoder writes.
    """
    costs = _costs(model, config)
    whole = sum(costs.values())
    if config.is_encoder_decoder:
        encoder = _encoder(model)
        read = sum(costs[name] for name in _matmul_parameters(encoder, config) if name in costs)
        return read * (1 - written) + (whole - read) * written
    layers = int(getattr(config, "num_hidden_layers", 0))
    heads = int(getattr(config, "num_attention_heads", 0))
    head_size = getattr(config, "head_dim", None) or int(getattr(config, "hidden_size", 0)) // max(1, heads)
    return whole + flops.attention(context, heads * int(head_size), layers)


def _costs(model: nn.Module, config: Any) -> dict[int, float]:
    """Operations of a token for each weight of a matrix product, by the parameter's identity."""
    used = _matmul_parameters(model, config)
    passed = hasattr(model, "peft_config")
    found = {}
    for parameter in model.parameters():
        passed = passed or parameter.requires_grad
        if id(parameter) in used:
            found[id(parameter)] = used[id(parameter)] * flops.each(parameter.requires_grad, passed)
    return found


def matmul_parameters(model: nn.Module, config: Any) -> float:
    """Weights that a token meets in matrix products; of experts only those that it is routed to."""
    return sum(_matmul_parameters(model, config).values())


def _matmul_parameters(model: nn.Module, config: Any) -> dict[int, float]:
    """As `matmul_parameters`, by the parameter's identity."""
    head = getattr(_layer(model, "get_output_embeddings"), "weight", None)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    looked_up = {id(parameter) for table in tables for parameter in table.parameters()}
    share = flops.routed_share(config.to_dict())
    found = {}
    for name, parameter in model.named_parameters():
        shape = whole_shape(parameter)
        if len(shape) < 2 or (id(parameter) in looked_up and parameter is not head):
            continue
        if "prompt_encoder" in name or ".original_module." in name:
            continue  # tokens that are looked up; the weights in whose place others are trained
        found[id(parameter)] = math.prod(shape) * (share if ".experts." in name else 1.0)
    return found


def _layer(model: nn.Module, getter: str) -> nn.Module | None:
    layer: nn.Module | None = getattr(model, getter, lambda: None)()
    return layer


def _encoder(model: Any) -> nn.Module:
    encoder: nn.Module = model.get_encoder()
    return encoder
