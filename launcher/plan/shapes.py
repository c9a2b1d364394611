"""Number of parameters of a model by its config.json, by formula, for the architectures it knows.

Counts every trained parameter once (tied embeddings are one). Sources: the modules of transformers 5; a test compares
each architecture with the model that transformers makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama; `defaults` are transformers' where config.json leaves a key out."""

    defaults: Mapping[str, Any]
    layer_norms: int = 2
    qkv_bias: bool = False
    output_bias: bool = True
    query_key_norm: str = ""


_UNTIED = {"tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
FAMILIES: Mapping[str, Family] = {
    "llama": Family(_UNTIED),
    "mistral": Family({**_UNTIED, "num_key_value_heads": 8}),
    "mixtral": Family({**_UNTIED, "num_key_value_heads": 8, "num_local_experts": 8}),
    "phi3": Family(_UNTIED),
    "qwen2": Family({**_UNTIED, "num_key_value_heads": 32}, qkv_bias=True, output_bias=False),
    "qwen3": Family({**_UNTIED, "num_key_value_heads": 32, "head_dim": 128}, query_key_norm="head"),
    "gemma": Family({**_TIED, "num_key_value_heads": 16, "head_dim": 256}),
    "gemma2": Family({**_TIED, "num_key_value_heads": 4, "head_dim": 256}, layer_norms=4),
    "gemma3_text": Family({**_TIED, "num_key_value_heads": 4, "head_dim": 256}, layer_norms=4, query_key_norm="head"),
    "olmo2": Family(_UNTIED, query_key_norm="all"),
}


def count_parameters(config: Config) -> int | None:
    """Parameters of the model that `config` describes; None where the architecture or a size is not known."""
    counter = _OTHERS.get(str(config.get("model_type")))
    family = FAMILIES.get(str(config.get("model_type")))
    try:
        if counter is not None:
            return counter(config)
        return _llama_like(config, family) if family else None
    except (KeyError, TypeError, ValueError):
        return None


def hidden_size(config: Config) -> int | None:
    """Width of the model's layers, by whichever name config.json gives it."""
    for source in (config, config.get("text_config") or {}):
        for name in ("hidden_size", "n_embd", "d_model"):
            if isinstance(source.get(name), int):
                return int(source[name])
    return None


def _llama_like(given: Config, family: Family) -> int:
    config = {**family.defaults, **{name: value for name, value in given.items() if value is not None}}
    width, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or width // heads)
    queries, keys = heads * head, int(config.get("num_key_value_heads") or heads) * head
    attention = 2 * width * queries + 2 * width * keys
    biased = bool(config.get("attention_bias", False))
    if biased or family.qkv_bias:
        attention += queries + 2 * keys + (width if biased and family.output_bias else 0)
    attention += {"": 0, "head": 2 * head, "all": queries + keys}[family.query_key_norm]
    layer = attention + _feed_forward(config, width) + family.layer_norms * width
    embeddings = vocabulary * width * (1 if config["tie_word_embeddings"] else 2)
    return embeddings + int(config["num_hidden_layers"]) * layer + width


def _feed_forward(config: Config, width: int) -> int:
    inner = int(config["intermediate_size"])
    one = 3 * width * inner + (2 * inner + width if config.get("mlp_bias", False) else 0)
    experts = config.get("num_local_experts")
    return one if experts is None else int(experts) * (one + width)


def _gpt2(config: Config) -> int:
    width, layers = int(config["n_embd"]), int(config["n_layer"])
    inner = int(config.get("n_inner") or 4 * width)
    layer = 4 * width * width + 2 * width * inner + 9 * width + inner
    embeddings = (int(config["vocab_size"]) + int(config.get("n_positions") or 1024)) * width
    head = 0 if config.get("tie_word_embeddings", True) else int(config["vocab_size"]) * width
    return embeddings + layers * layer + 2 * width + head


def _gpt_neox(config: Config) -> int:
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    bias = 4 * width if config.get("attention_bias", True) else 0
    layer = 4 * width * width + bias + 2 * width * inner + inner + width + 4 * width
    embeddings = int(config["vocab_size"]) * width * (1 if config.get("tie_word_embeddings", False) else 2)
    return embeddings + int(config["num_hidden_layers"]) * layer + 2 * width


_OTHERS: Mapping[str, Callable[[Config], int]] = {"gpt2": _gpt2, "gpt_neox": _gpt_neox}
