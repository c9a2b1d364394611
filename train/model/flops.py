"""Floating-point operations of a token, and what a GPU can do: the two sides of MFU.

Convention: 6 operations a token for each weight of a matrix product (the head with them, the input embedding not) and
6 · s · q_dim · layers for causal attention over documents of s tokens. What gradient checkpointing computes again does
not count. Llama 3.1 8B: 48.25 · 10^9 at 4,096 tokens. Of an encoder and a decoder a token meets the weights of one;
their attention over other tokens, which depends on both lengths, is left out.

Frozen weights cost no gradient of their own: 4 operations, and 2 where nothing below them is trained, so that no
gradient passes them (the first layers of a frozen model; never under an adapter). Packed weights count by the shape
they stand for. Attention always counts in full.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from train.data.documents import IntArray
from train.model.parameters import whole_shape

PEAK_BF16 = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "A40": 150e12,
    "A30": 165e12,
    "A10": 125e12,
    "L4": 121e12,
    "H20": 148e12,
    "GB200": 2500e12,
    "B200": 2250e12,
    "B300": 2250e12,
}
"""Dense bf16 operations a second, by words of the device's name, the telling ones first; makers' data sheets, without
sparsity."""


def peak_operations(device: torch.device) -> float | None:
    """Dense bf16 operations a second of a GPU we know, else None."""
    if device.type != "cuda":
        return None
    return peak_by_name(torch.cuda.get_device_name(device))


def peak_by_name(name: str) -> float | None:
    """As `peak_operations`, for a name such as `NVIDIA H100 80GB HBM3` or `NVIDIA A100-SXM4-80GB`."""
    words = name.replace("-", " ").split()
    return next((peak for known, peak in PEAK_BF16.items() if set(known.split()) <= set(words)), None)


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
    return whole + 6 * context * heads * int(head_size) * layers


def _costs(model: nn.Module, config: Any) -> dict[int, float]:
    """Operations of a token for each weight of a matrix product, by the parameter's identity."""
    used = _matmul_parameters(model, config)
    passed = hasattr(model, "peft_config")
    found = {}
    for parameter in model.parameters():
        passed = passed or parameter.requires_grad
        if id(parameter) in used:
            found[id(parameter)] = used[id(parameter)] * (6 if parameter.requires_grad else 4 if passed else 2)
    return found


def matmul_parameters(model: nn.Module, config: Any) -> float:
    """Weights that a token meets in matrix products; of experts only those that it is routed to."""
    return sum(_matmul_parameters(model, config).values())


def _matmul_parameters(model: nn.Module, config: Any) -> dict[int, float]:
    """As `matmul_parameters`, by the parameter's identity."""
    head = getattr(_layer(model, "get_output_embeddings"), "weight", None)
    embedding = _layer(model, "get_input_embeddings")
    looked_up = {id(parameter) for parameter in embedding.parameters()} if embedding is not None else set()
    routed = float(getattr(config, "num_experts_per_tok", 0) or 0)
    experts = float(getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0) or 0)
    share = routed / experts if routed and experts else 1.0
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
