"""Attention per document: what lets documents lie end to end in a row without seeing each other.

`register()` makes the attention function `muster` known to transformers. Given `cu_seq_lens_q` it attends causally
within each document (`per_document`); without it, it is transformers' `sdpa`. The mask function of `sdpa` is registered
under the same name: without one transformers builds no mask at all, and padding and sliding windows vanish without a
word. Which architectures pass all that is needed down to the attention function: `conf.architectures`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from conf.architectures import PACKABLE
from train.model.per_document import PackingError, attend

NAME = "muster"

TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Largest difference between packed and alone that `self_check` lets pass, relative to the largest value.

Rounding gives up to 6e-5 in fp32 (a small mixture of experts with large weights); a leak or a missing window ≥ 0.5.
"""


def register() -> None:
    """Make `attn_implementation="muster"` known to transformers. May be called again."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def proven(model_type: str) -> bool:
    """Whether a test proves that this architecture may be packed."""
    return model_type in PACKABLE


def small_model_config(model_config: Any) -> Any:
    """The configuration of a 2-layer model of the same class, its heads and windows kept in kind but not in number."""
    small = copy.deepcopy(model_config)
    heads = model_config.num_attention_heads
    groups = heads // (getattr(model_config, "num_key_value_heads", None) or heads)
    head_size = getattr(model_config, "head_dim", None) or model_config.hidden_size // heads
    kinds = getattr(model_config, "layer_types", None)
    changes: dict[str, Any] = {
        "num_hidden_layers": 2,
        "hidden_size": 2 * head_size,
        "intermediate_size": 4 * head_size,
        "n_inner": None,
        "moe_intermediate_size": 2 * head_size,
        "num_attention_heads": 2,
        "num_key_value_heads": 1 if groups > 1 else 2,
        # Every expert is chosen: which ones are is a step function, which rounding errors would tip over.
        "num_local_experts": 2,
        "num_experts": 2,
        "num_experts_per_tok": 2,
        "initializer_range": 0.2,
        "vocab_size": 128,
        "sliding_window": 8 if getattr(model_config, "sliding_window", None) else None,
        "layer_types": (list(dict.fromkeys(kinds)) * 2)[:2] if kinds else None,
        "max_window_layers": 1,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    for name, change in changes.items():
        if getattr(small, name, None) is not None:
            setattr(small, name, change)
    return small


def packed_difference(model: torch.nn.Module, documents: list[torch.Tensor]) -> float:
    """Largest difference between documents packed and each alone, in logits and gradients, relative to their largest.

    `documents` are int64 (length,) on the model's device.
    """
    lengths = [len(document) for document in documents]
    bounds = torch.tensor([0, *lengths], device=documents[0].device).cumsum(0).to(torch.int32)
    packed = {
        "input_ids": torch.cat(documents)[None],
        "position_ids": torch.cat([torch.arange(length, device=bounds.device) for length in lengths])[None],
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=bounds.device),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    # Not the square of logits: their sum over a normalised layer hardly depends on what attention did.
    weights = [torch.linspace(-1, 1, length, device=bounds.device)[:, None] for length in lengths]
    alone = [model(input_ids=document[None], use_cache=False).logits[0] for document in documents]
    expected = _gradients(model, torch.stack([(w * x).sin().sum() for w, x in zip(weights, alone, strict=True)]).sum())
    together = model(**packed, use_cache=False).logits[0]
    found = _gradients(model, (torch.cat(weights) * together).sin().sum())
    logits = [torch.cat(alone).detach()], [together.detach()]
    return max(_difference(*logits), _difference(expected, found))


def _difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    largest = max(float(tensor.abs().max()) for tensor in expected)
    return max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)) / largest


def _gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters() if p.requires_grad]


def self_check(model_config: Any, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> float:
    """Compare documents packed and alone on a small model of the class, on the CPU by default; the difference found.

    Random state is left as it was. Not to be called while a DeepSpeed configuration of ZeRO-3 is alive for
    transformers: it would shard the small model too.

    Raises:
        PackingError: they differ, or the class calls attention in a way that is not known.
    """
    from transformers import AutoModelForCausalLM

    register()
    device = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(small_model_config(model_config), attn_implementation=NAME)
        model = model.to(device=device, dtype=dtype).eval()
        documents = [torch.randint(0, 128, (length,)).to(device) for length in (21, 5, 13)]
        difference = packed_difference(model, documents)
    if not difference <= TOLERANCE[dtype]:
        raise PackingError(
            f"{type(model).__name__}: packed documents differ from documents alone by {difference:.1e} "
            f"(allowed {TOLERANCE[dtype]:.0e}); use data.packing=none"
        )
    return difference
