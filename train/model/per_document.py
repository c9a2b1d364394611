"""Causal attention within each document of a row, in transformers' attention interface.

On a GPU all documents go through one kernel; elsewhere each through torch's own. No mask over the whole row is built.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary

from conf.outcome import Cause

KNOWN_ARGUMENTS = frozenset(
    {
        "cache_position",
        "cu_seq_lens_k",
        "cu_seq_lens_q",
        "is_causal",
        "max_length_k",
        "max_length_q",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "sliding_window",
        "use_cache",
    }
)
"""Arguments whose meaning is kept. Any other one that is set might change what attention means, so it is an error."""


class PackingError(Exception):
    """Packed documents would not be computed as documents alone."""

    cause = Cause.config


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' interface.

    Args:
        query: (batch, heads, length, head size); key and value may have fewer heads, shared by groups of query heads.
        attention_mask: ignored where documents are given, which bound attention themselves.

    Returns:
        The output, (batch, length, heads, head size), and None for the weights.

    Raises:
        PackingError: documents are given together with something that this function does not know.
    """
    if kwargs.get("cu_seq_lens_q") is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    unknown = sorted(
        name
        for name, argument in kwargs.items()
        if name not in KNOWN_ARGUMENTS and argument is not None and argument is not False
    )
    if unknown:
        raise PackingError(f"{type(module).__name__} passes {', '.join(unknown)}: not known to attention per document")
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise PackingError(f"{type(module).__name__} is not causal: attention per document is")
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise PackingError(
            f"packed documents come as one row without a cache: queries {tuple(query.shape)}, keys {tuple(key.shape)}"
        )
    window = kwargs.get("sliding_window")
    if dropout == 0.0 and _flash_takes(query):
        return _varlen(query, key, value, kwargs, scaling, window), None
    return _each_document(query, key, value, _on_host(kwargs["cu_seq_lens_q"]), scaling, dropout, window), None


def _flash_takes(query: torch.Tensor) -> bool:
    """Whether torch's flash attention over variable lengths computes these heads: 16 bits, head size, GPU.

    The conditions of `mha_varlen_fwd` in torch's `aten/src/ATen/native/transformers/cuda/flash_attn`.
    """
    head_size = query.shape[-1]
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16) or head_size % 8 or head_size > 256:
        return False
    return torch.cuda.get_device_capability(query.device) >= (8, 0)


_HOST_BOUNDS: MutableMapping[torch.Tensor, list[int]] = WeakIdKeyDictionary()


def _on_host(bounds: torch.Tensor) -> list[int]:
    """`bounds` as numbers: read from a GPU, which is waited for, once a micro batch and not once a layer."""
    known = _HOST_BOUNDS.get(bounds)
    if known is None:
        known = bounds.tolist()
        _HOST_BOUNDS[bounds] = known
    return known


def _each_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: list[int],
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """Causal attention document by document; `bounds` are where they begin, and the end of the row."""
    if bounds[0] != 0 or bounds[-1] != query.shape[2]:
        raise PackingError(f"documents span {bounds[0]} to {bounds[-1]}, the row has {query.shape[2]} tokens")
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.is_cuda:
        # In fp32 only the kernel that writes all scores down knows groups; the others do once heads are repeated.
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        grouped = False
    lengths = [end - start for start, end in itertools.pairwise(bounds)]
    outputs = []
    parts = (torch.split(whole, lengths, 2) for whole in (query, key, value))
    for length, q, k, v in zip(lengths, *parts, strict=True):
        banded = window is not None and length > window
        outputs.append(
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=_band(length, window, query.device) if window is not None and banded else None,
                dropout_p=dropout,
                is_causal=not banded,
                scale=scaling,
                enable_gqa=grouped,
            ).transpose(1, 2)
        )
    return torch.cat(outputs, 1)


@lru_cache(maxsize=64)
def _band(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Which keys a query sees in a sliding window: itself and the `window` - 1 before; bool (length, length)."""
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril().triu(1 - window)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: dict[str, Any],
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All documents in one kernel on a GPU (flash attention over variable lengths, as it comes with torch)."""
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.11 has no such argument and takes groups as they come; later ones want to be told.
    groups: dict[str, Any] = {"enable_gqa": query.shape[1] != key.shape[1]} if _asks_for_groups() else {}
    output = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        lengths["cu_seq_lens_q"],
        lengths["cu_seq_lens_k"],
        lengths["max_length_q"],
        lengths["max_length_k"],
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        **groups,
    )
    return cast(torch.Tensor, output)[None]


@lru_cache(maxsize=1)
def _asks_for_groups() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters
