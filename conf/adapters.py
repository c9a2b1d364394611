"""What Muster knows of PEFT's methods, by `peft_type`."""

from __future__ import annotations

from collections.abc import Mapping

VIRTUAL_TOKENS = frozenset({"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"})
"""Methods that put learned tokens before each row: documents cannot lie end to end behind them, and they are no part of
the model's weights, so nothing can be merged."""

UNSUPPORTED: Mapping[str, str] = {
    "ADALORA": "moves its ranks by whole gradients in every step, which ZeRO does not keep; LORA",
    "XLORA": "mixes adapters that are there already; LORA",
    "POLY": "needs the number of a task with each document; LORA",
    "MULTITASK_PROMPT_TUNING": "needs the number of a task with each document; PROMPT_TUNING",
    "CPT": "brings a loss of its own; PROMPT_TUNING",
    "SHADOW": "hands layers something that is no tensor, which the attention of most models cannot take; LORA",
    "CARTRIDGE": "is distilled from a long context by a training of its own; PREFIX_TUNING",
}
"""Methods of PEFT that need more than a model and documents → why, and the nearest that does not."""

SHARDED = frozenset(
    {
        *VIRTUAL_TOKENS,
        *("LORA", "IA3", "LOKR", "OFT", "BOFT", "MISS", "VERA", "PVERA", "VBLORA", "RANDLORA", "GRALORA", "GLORA"),
        *("UNILORA", "HIRA", "HRA", "LILY", "BEFT", "FOURIERFT", "WAVEFT", "SHIRA", "C3A", "ROAD", "PSOFT"),
        "ADAPTION_PROMPT",
    }
)
"""Methods that learn the same over the parts of weights that ZeRO-3 leaves a rank. Others look at whole weights: they
fail, or (DELORA) learn nothing without a word."""

WHOLE_WEIGHT_STARTS = ("pissa", "olora", "loftq")
"""Values of `init_lora_weights` that decompose the model's own weights (`pissa_niter_4` is one)."""

DATA_STARTS = ("eva", "corda", "lora_ga")
"""Values of `init_lora_weights` that want batches of data before training."""


_QWENS = {"gate": "gate.weight", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj"}
_MIXTRALS = {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"}
FUSED_EXPERTS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("mixtral", "minimax", "minimax_m2"), _MIXTRALS),
    **dict.fromkeys(
        (
            *("afmoe", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe"),
            *("exaone_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe"),
            *("longcat_flash", "mellum", "olmoe", "qwen3_moe", "qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_text"),
            *("qwen3_omni_moe_thinker", "sarvam_mla", "solar_open", "beam"),
        ),
        _QWENS,
    ),
}
"""Architectures whose experts LoRA changes as the fused weights that transformers 5 makes of them: the name of a target
→ of its parameter. A parameter of two targets has twice the rank (PEFT, `utils/transformers_weight_conversion.py`)."""

_GATED = (("q_proj", "v_proj", "down_proj"), ("down_proj",))
_KEYS_TOO = (("k_proj", "v_proj", "down_proj"), ("down_proj",))
IA3_MODULES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), _GATED),
    **dict.fromkeys(("llama", "mistral"), _KEYS_TOO),
    **dict.fromkeys(("bert", "roberta"), (("key", "value", "output.dense"), ("output.dense",))),
    "mixtral": (("k_proj", "v_proj", "w2"), ("w2",)),
    "phi": (("q_proj", "v_proj", "fc2"), ("fc2",)),
    "gpt2": (("c_attn", "mlp.c_proj"), ("mlp.c_proj",)),
    "gpt_neox": (("query_key_value", "dense_4h_to_h"), ("dense_4h_to_h",)),
    "t5": (("k", "v", "wo"), ("wo",)),
    "mt5": (("k", "v", "wi_1"), ()),
    "bart": (("q_proj", "v_proj", "fc2"), ("fc2",)),
}
"""Modules that IA³ changes where none are named, and those in the feed-forward layer (PEFT, `utils/constants.py`)."""


def peft_type(peft: Mapping[str, object]) -> str:
    """The method's name in PEFT's spelling; empty where there is no adapter."""
    return str(peft.get("peft_type", "")).upper()


def has_virtual_tokens(peft: Mapping[str, object]) -> bool:
    """Whether the method puts learned tokens before each row."""
    return peft_type(peft) in VIRTUAL_TOKENS


def needs_whole_weights(start: object) -> bool:
    """Whether this value of `init_lora_weights` decomposes whole weights."""
    return isinstance(start, str) and start.lower().startswith(WHOLE_WEIGHT_STARTS)


def needs_data(start: object) -> bool:
    """Whether this value of `init_lora_weights` is drawn from batches of data."""
    return isinstance(start, str) and start.lower().startswith(DATA_STARTS)
