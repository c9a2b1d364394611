"""Weights in 4 or 8 bits under an adapter: bitsandbytes through transformers' own configuration.

bitsandbytes initialises CUDA when it is imported, so this module imports it in a rank alone, never in an agent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from conf.schema import MethodConfig, Quantization


def quantization_config(method: MethodConfig, dtype: torch.dtype, sharded: bool, whole: list[str]) -> Any:
    """transformers' BitsAndBytesConfig, or None where nothing is quantised.

    Args:
        dtype: in which matrix products are computed.
        sharded: ZeRO-3 takes weights apart, and only floating-point ones: 4-bit values travel inside `dtype` then.
        whole: modules that stay as they are: the head, and what is trained beside the adapter.
    """
    kind = method.quantization
    if kind is Quantization.none:
        return None
    from transformers import BitsAndBytesConfig

    given = dict(method.quantization_kwargs)
    kept = {*whole, *(given.pop("llm_int8_skip_modules", None) or [])}
    arguments: dict[str, Any] = {"llm_int8_skip_modules": sorted(kept)}
    if kind is Quantization.int8:
        arguments["load_in_8bit"] = True
    else:
        arguments |= {"load_in_4bit": True, "bnb_4bit_quant_type": kind.value, "bnb_4bit_compute_dtype": dtype}
        if sharded:
            arguments["bnb_4bit_quant_storage"] = dtype
    return BitsAndBytesConfig(**arguments, **given)


def keep_stored(model: nn.Module) -> None:
    """Have no layer lay its 4-bit weights out anew.

    On processors with AVX-512 BF16, bitsandbytes rewrites them at the first evaluation for speed: with scales rounded
    to bf16, so that the model is no longer the one that is trained, and in a shape that ZeRO-3 cannot take apart.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]  # bitsandbytes.nn.Linear4bit


def whole_modules(model_class: Any, source: str, arguments: dict[str, Any], method: MethodConfig) -> list[str]:
    """Modules of a model that are never quantised: its head, tied weights, and what an adapter trains as a whole.

    Args:
        model_class: an auto class of transformers; `arguments` are those of `from_pretrained`.
    """
    from transformers import AutoConfig
    from transformers.quantizers.base import get_keys_to_not_convert

    known = {name: arguments[name] for name in ("revision", "trust_remote_code") if name in arguments}
    config = AutoConfig.from_pretrained(source, **known)
    with torch.device("meta"):
        model = model_class.from_config(config, **({"trust_remote_code": True} if "trust_remote_code" in known else {}))
    kept = {*get_keys_to_not_convert(model), *head_modules(model), *(method.peft.get("modules_to_save") or [])}
    return sorted(kept)


def head_modules(model: Any) -> list[str]:
    """What lies on top of the model's body: `lm_head`, `score`, `classifier`, `pre_classifier`, …"""
    body = model.base_model_prefix
    return [
        name for name, child in model.named_children() if name != body and next(child.parameters(), None) is not None
    ]
