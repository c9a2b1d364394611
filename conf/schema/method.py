"""Which parameters are trained, and how the others are kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from conf.schema.key import key


class Quantization(Enum):
    """How weights that are not trained are kept: bitsandbytes' 4-bit and 8-bit types."""

    none = "none"
    nf4 = "nf4"
    fp4 = "fp4"
    int8 = "int8"


@dataclass
class MethodConfig:
    """Which parameters are trained. `method=full|lora|qlora|…`; any other method of PEFT by `method.peft`."""

    name: str = key("full", "What the method is called, in the run's name and in tables.")
    peft: dict[str, Any] = key(
        {},
        "PEFT's own keys, `peft_type` first: {peft_type: LORA, r: 16, lora_alpha: 32, target_modules: all-linear}. "
        "Empty: the model's own parameters are trained.",
    )
    quantization: Quantization = key(
        Quantization.none,
        "`nf4` or `fp4` (4 bits) or `int8` for the weights of the model under an adapter: a quarter or half of bf16's "
        "memory, slower steps.",
    )
    quantization_kwargs: dict[str, Any] = key(
        {}, "Further keys of transformers' BitsAndBytesConfig, such as {bnb_4bit_use_double_quant: true}."
    )
    freeze: list[str] = key(
        [],
        "Patterns of parameter names (`*` and `?`, as in the shell) that are not trained: ['*embed*', '*.layers.0.*'].",
    )
    unfreeze: list[str] = key(
        [],
        "Patterns of parameter names that are trained although `freeze` or `freeze_layers` says not. Beside an adapter "
        "whole modules are trained by its own `modules_to_save`.",
    )
    freeze_layers: int = key(0, "The embeddings and the first so many layers are not trained.")
    merge: bool = key(
        True,
        "Adapters: export the model with the adapter merged into its weights as well, where that is possible.",
    )
