"""Floating-point operations of a token: the convention of MFU, for who counts over a model and who over its shape.

6 operations a token for each weight of a matrix product (the head with them, the input embedding not) and 6 · s · q_dim
· layers for causal attention over documents of s tokens. What gradient checkpointing computes again does not count.
Llama 3.1 8B: 48.25 · 10^9 at 4,096 tokens. Of an encoder and a decoder a token meets the weights of one; their
attention over other tokens, which depends on both lengths, is left out.

Frozen weights cost no gradient of their own: 4 operations, and 2 where nothing below them is trained, so that no
gradient passes them (the first layers of a frozen model; never under an adapter). Attention always counts in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
ROUTED = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk")
"""Names under which architectures say how many experts a layer has, and how many of them a token meets."""

FORWARD = 2
"""Of the 6 operations, those of the forward pass."""


def each(trained: bool, passed: bool) -> int:
    """Operations of a token for a weight; `passed`: a gradient passes it on its way to what is trained."""
    return 6 if trained else 4 if passed else FORWARD


def attention(context: float, queries: int, layers: int) -> float:
    """Operations of a token for causal attention over `context` tokens; `queries` is the width of all heads."""
    return 6 * context * queries * layers


def routed_share(model: Mapping[str, Any]) -> float:
    """The share of its experts' weights that a token meets, by the content of config.json; 1 where there are none."""
    experts, routed = _number(model, EXPERTS), _number(model, ROUTED)
    return min(1.0, routed / experts) if routed and experts else 1.0


def _number(model: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """What stands under the first of these names, at the top or in the language model of several models; else 0."""
    text = model.get("text_config")
    for source in (model, text if isinstance(text, Mapping) else {}):
        for name in names:
            if isinstance(source.get(name), int):
                return int(source[name])
    return 0
