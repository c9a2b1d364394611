"""A model by its config.json, taken apart: parameters of its embeddings, layers and the rest, and its matrices.

Counts every parameter once (tied embeddings are one). Sources: the modules of transformers 5; a test compares each
architecture with the model that transformers makes. Decoders are here, encoders and pairs in `launcher.plan.encoders`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """A linear layer by its name in the model, with its inputs and outputs."""

    name: str
    inputs: int
    outputs: int
    biased: bool = False

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs + self.outputs * self.biased


@dataclass(frozen=True)
class Parts:
    """Parameters of a model: its embeddings, each layer of each of its stacks, what is left, and the head.

    `matrices` are those that an adapter on all linear layers changes (never the head); None where they are not known.
    """

    embeddings: int
    stacks: list[list[int]]
    rest: int
    head: int = 0
    matrices: list[Matrix] | None = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return self.embeddings + sum(map(sum, self.stacks)) + self.rest + self.head


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama; `defaults` are transformers' where config.json leaves a key out."""

    defaults: Mapping[str, Any]
    layer_norms: int = 2
    qkv_bias: bool = False
    output_bias: bool = True
    query_key_norm: str = ""
    fused: bool = False


_UNTIED = {"tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
FAMILIES: Mapping[str, Family] = {
    "llama": Family(_UNTIED),
    "mistral": Family({**_UNTIED, "num_key_value_heads": 8}),
    "mixtral": Family({**_UNTIED, "num_key_value_heads": 8, "num_local_experts": 8}),
    "phi3": Family(_UNTIED, fused=True),
    "qwen2": Family({**_UNTIED, "num_key_value_heads": 32}, qkv_bias=True, output_bias=False),
    "qwen3": Family({**_UNTIED, "num_key_value_heads": 32, "head_dim": 128}, query_key_norm="head"),
    "gemma": Family({**_TIED, "num_key_value_heads": 16, "head_dim": 256}),
    "gemma2": Family({**_TIED, "num_key_value_heads": 4, "head_dim": 256}, layer_norms=4),
    "gemma3_text": Family({**_TIED, "num_key_value_heads": 4, "head_dim": 256}, layer_norms=4, query_key_norm="head"),
    "olmo2": Family(_UNTIED, query_key_norm="all"),
}


def given(config: Config, defaults: Config) -> dict[str, Any]:
    """`config` over `defaults`, without its nulls."""
    return {**defaults, **{name: value for name, value in config.items() if value is not None}}


def llama_like(config: Config, family: Family, labels: int | None) -> Parts:
    """A decoder of Llama's kind; with `labels` a head for them instead of the one for tokens."""
    config = given(config, family.defaults)
    width, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    layers = int(config["num_hidden_layers"])
    one = _attention(config, family, width) + _feed_forward(config, family, width)
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or width // heads)
    keys = int(config.get("num_key_value_heads") or heads) * head
    norms = family.layer_norms * width + {"": 0, "head": 2 * head, "all": heads * head + keys}[family.query_key_norm]
    experts = config.get("num_local_experts")
    if experts is not None:
        inner = 3 * width * int(config["intermediate_size"])
        norms += int(experts) * (inner + width)
        one = _attention(config, family, width)
    layer = sum(matrix.parameters for matrix in one) + norms
    top = vocabulary * width * (not config["tie_word_embeddings"]) if labels is None else labels * width
    matrices = None if experts is not None else _in_layers("model.layers", layers, one)
    return Parts(vocabulary * width, [[layer] * layers], width, int(top), matrices)


def _attention(config: Config, family: Family, width: int) -> list[Matrix]:
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or width // heads)
    queries, keys = heads * head, int(config.get("num_key_value_heads") or heads) * head
    biased = bool(config.get("attention_bias", False))
    if family.fused:
        return [
            Matrix("self_attn.qkv_proj", width, queries + 2 * keys, biased),
            Matrix("self_attn.o_proj", queries, width, biased),
        ]
    sizes = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    made = [Matrix(f"self_attn.{name}", width, size, biased or family.qkv_bias) for name, size in sizes.items()]
    return [*made, Matrix("self_attn.o_proj", queries, width, biased and family.output_bias)]


def _feed_forward(config: Config, family: Family, width: int) -> list[Matrix]:
    inner, biased = int(config["intermediate_size"]), bool(config.get("mlp_bias", False))
    down = Matrix("mlp.down_proj", inner, width, biased)
    if family.fused:
        return [Matrix("mlp.gate_up_proj", width, 2 * inner, biased), down]
    return [*(Matrix(f"mlp.{name}_proj", width, inner, biased) for name in ("gate", "up")), down]


def _in_layers(prefix: str, layers: int, one: list[Matrix]) -> list[Matrix]:
    return [
        Matrix(f"{prefix}.{layer}.{matrix.name}", matrix.inputs, matrix.outputs, matrix.biased)
        for layer in range(layers)
        for matrix in one
    ]


def gpt2(config: Config, labels: int | None) -> Parts:
    """GPT-2, whose matrices are convolutions of length one."""
    width, layers, vocabulary = int(config["n_embd"]), int(config["n_layer"]), int(config["vocab_size"])
    inner = int(config.get("n_inner") or 4 * width)
    one = [
        Matrix("attn.c_attn", width, 3 * width, True),
        Matrix("attn.c_proj", width, width, True),
        Matrix("mlp.c_fc", width, inner, True),
        Matrix("mlp.c_proj", inner, width, True),
    ]
    layer = sum(matrix.parameters for matrix in one) + 4 * width
    embeddings = (vocabulary + int(config.get("n_positions") or 1024)) * width
    top = 0 if config.get("tie_word_embeddings", True) else vocabulary * width
    top = top if labels is None else labels * width
    return Parts(embeddings, [[layer] * layers], 2 * width, top, _in_layers("transformer.h", layers, one))


def gpt_neox(config: Config, labels: int | None) -> Parts:
    """GPT-NeoX and Pythia."""
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
    biased = bool(config.get("attention_bias", True))
    one = [
        Matrix("attention.query_key_value", width, 3 * width, biased),
        Matrix("attention.dense", width, width, biased),
        Matrix("mlp.dense_h_to_4h", width, inner, True),
        Matrix("mlp.dense_4h_to_h", inner, width, True),
    ]
    layer = sum(matrix.parameters for matrix in one) + 4 * width
    top = 0 if config.get("tie_word_embeddings", False) else vocabulary * width
    top = top if labels is None else labels * width
    matrices = _in_layers("gpt_neox.layers", layers, one)
    return Parts(vocabulary * width, [[layer] * layers], 2 * width, top, matrices)
