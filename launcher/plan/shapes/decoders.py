"""Decoders of Llama's kind: attention with rotary positions, a gated or plain feed-forward layer, experts.

Each family says how it differs from Llama. Names and shapes are those of the modules of transformers 5 (`modeling_*.py`
of each family); a test compares every one with the model that transformers makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.plan.shapes.weights import Config, Group, Shape, Weight, given, head, linear, norm, table

LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm")
GEMMA_NORMS = (*LLAMA_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
OLMO2_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama.

    `defaults` are transformers' where config.json leaves a key out. `qkv_bias` and `output_bias` name the keys of
    config.json that give the projections a bias, or say it outright. `query_key_norm` is `head` (one norm for a head's
    numbers) or `all`. `plain` has two matrices in the feed-forward layer instead of three.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    norms: tuple[str, ...] = LLAMA_NORMS
    final_norm: str = "norm"
    norm_bias: bool = False
    qkv_bias: bool | str = "attention_bias"
    output_bias: bool | str = "attention_bias"
    output: str = "o_proj"
    query_key_norm: str = ""
    fused: bool = False
    plain: bool = False
    head_bias: bool = False
    experts: str = ""
    norm: str = "rms"
    computed_norms: int = 0
    partial: bool = False
    softcap: bool = False

    def biased(self, key: bool | str, config: Config) -> bool:
        """Whether what `qkv_bias` or `output_bias` says holds for this configuration."""
        return bool(config.get(key, False)) if isinstance(key, str) else key


_UNTIED = {"tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
_SHARED_EXPERTS = {"num_experts": 60, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}
_QWEN_MOE = {"decoder_sparse_step": 1, "mlp_only_layers": (), "num_experts_per_tok": 4, **_UNTIED}
FAMILIES: Mapping[str, Family] = {
    "llama": Family(_UNTIED),
    "mistral": Family({**_UNTIED, "num_key_value_heads": 8}, qkv_bias=False, output_bias=False),
    "mixtral": Family(
        {**_UNTIED, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
        qkv_bias=False,
        output_bias=False,
        experts="mixtral",
    ),
    "granite": Family(_UNTIED),
    "smollm3": Family({**_TIED, "num_key_value_heads": 4}),
    "phi": Family(
        _UNTIED,
        norms=("input_layernorm",),
        final_norm="final_layernorm",
        norm_bias=True,
        qkv_bias=True,
        output_bias=True,
        output="dense",
        plain=True,
        head_bias=True,
        norm="layer",
        partial=True,
    ),
    "phi3": Family(_UNTIED, qkv_bias=False, output_bias=False, fused=True, partial=True),
    "qwen2": Family({**_UNTIED, "num_key_value_heads": 32}, qkv_bias=True, output_bias=False),
    "qwen2_moe": Family(
        {**_QWEN_MOE, **_SHARED_EXPERTS, "num_key_value_heads": 16, "qkv_bias": True},
        qkv_bias="qkv_bias",
        output_bias=False,
        experts="shared",
    ),
    "qwen3": Family({**_UNTIED, "num_key_value_heads": 32, "head_dim": 128}, query_key_norm="head"),
    "qwen3_moe": Family(
        {**_QWEN_MOE, "num_experts": 128, "moe_intermediate_size": 768, "num_key_value_heads": 4},
        query_key_norm="head",
        experts="routed",
    ),
    "gemma": Family({**_TIED, "num_key_value_heads": 16, "head_dim": 256}, norm="rms32"),
    "gemma2": Family(
        {**_TIED, "num_key_value_heads": 4, "head_dim": 256}, norms=GEMMA_NORMS, norm="rms32", softcap=True
    ),
    "gemma3_text": Family(
        {**_TIED, "num_key_value_heads": 4, "head_dim": 256}, norms=GEMMA_NORMS, query_key_norm="head", norm="rms32"
    ),
    "olmo": Family(_UNTIED, norms=(), final_norm="", norm="fp32", computed_norms=2),
    "olmo2": Family(_UNTIED, norms=OLMO2_NORMS, query_key_norm="all", norm="rms32"),
    "olmo3": Family(_UNTIED, norms=OLMO2_NORMS, query_key_norm="all", norm="rms32"),
}


@dataclass(frozen=True)
class Sizes:
    """The numbers of a decoder's config.json, with transformers' defaults where it leaves one out."""

    width: int
    inner: int
    layers: int
    vocabulary: int
    heads: int
    key_heads: int
    head_size: int

    @property
    def queries(self) -> int:
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        return self.key_heads * self.head_size


def sizes_of(config: Config) -> Sizes:
    """The sizes in a config.json that has its family's defaults.

    Raises:
        KeyError: a size is missing.
    """
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Sizes(
        width,
        int(config["intermediate_size"]),
        int(config["num_hidden_layers"]),
        int(config["vocab_size"]),
        heads,
        int(config.get("num_key_value_heads") or heads),
        int(config.get("head_dim") or width // heads),
    )


def of_family(config: Config, family: Family) -> dict[str, Any]:
    """A config.json with its family's defaults; the number of experts has either of two names in it, and both here
    (transformers 5 saves Qwen's as `num_local_experts`)."""
    known = dict(config)
    for name, other in (("num_experts", "num_local_experts"), ("num_local_experts", "num_experts")):
        if known.get(name) is None and known.get(other) is not None:
            known[name] = known[other]
    return given(known, family.defaults)


def decoder(config: Config, family: Family, labels: int | None) -> Shape:
    """A decoder of Llama's kind; with `labels` a head for them instead of the one for tokens."""
    config = of_family(config, family)
    sizes = sizes_of(config)
    tied = bool(config["tie_word_embeddings"])
    weights = [table("model.embed_tokens", sizes.vocabulary, sizes.width)]
    for layer in range(sizes.layers):
        weights += _layer(f"model.layers.{layer}", layer, config, family, sizes)
    if family.final_norm:
        weights += norm(f"model.{family.final_norm}", sizes.width, family.norm_bias, Group.rest)
    if labels is not None:
        weights += head("score", sizes.width, labels)
    elif not tied:
        weights += head("lm_head", sizes.width, sizes.vocabulary, family.head_bias)
    elif family.head_bias:
        weights.append(Weight("lm_head.bias", (sizes.vocabulary,), Group.head))
    return Shape(tuple(weights), (sizes.layers,), tied and labels is None)


def _layer(name: str, layer: int, config: Config, family: Family, sizes: Sizes) -> Iterator[Weight]:
    yield from _attention(f"{name}.self_attn", layer, config, family, sizes)
    if family.experts and is_sparse(layer, config, family):
        yield from _experts(f"{name}.mlp", layer, config, family, sizes.width)
    else:
        yield from _feed_forward(f"{name}.mlp", layer, config, family, sizes)
    for one in family.norms:
        yield from norm(f"{name}.{one}", sizes.width, family.norm_bias, layer=layer)


def is_sparse(layer: int, config: Config, family: Family) -> bool:
    """Whether a layer has experts: all of Mixtral's, of Qwen's every `decoder_sparse_step`-th not in a list."""
    if family.experts == "mixtral":
        return True
    step = int(config["decoder_sparse_step"])
    return layer not in config["mlp_only_layers"] and int(config["num_experts"]) > 0 and (layer + 1) % step == 0


def _attention(name: str, layer: int, config: Config, family: Family, sizes: Sizes) -> Iterator[Weight]:
    biased = family.biased(family.qkv_bias, config)
    if family.fused:
        yield from linear(f"{name}.qkv_proj", sizes.width, sizes.queries + 2 * sizes.keys, biased, layer=layer)
    else:
        for one, outputs in {"q_proj": sizes.queries, "k_proj": sizes.keys, "v_proj": sizes.keys}.items():
            yield from linear(f"{name}.{one}", sizes.width, outputs, biased, layer=layer)
    biased = family.biased(family.output_bias, config)
    yield from linear(f"{name}.{family.output}", sizes.queries, sizes.width, biased, layer=layer)
    if family.query_key_norm:
        whole = family.query_key_norm == "all"
        yield from norm(f"{name}.q_norm", sizes.queries if whole else sizes.head_size, layer=layer)
        yield from norm(f"{name}.k_norm", sizes.keys if whole else sizes.head_size, layer=layer)


def _feed_forward(name: str, layer: int, config: Config, family: Family, sizes: Sizes) -> Iterator[Weight]:
    biased = family.plain or bool(config.get("mlp_bias", False))
    if family.plain:
        yield from linear(f"{name}.fc1", sizes.width, sizes.inner, biased, layer=layer)
        yield from linear(f"{name}.fc2", sizes.inner, sizes.width, biased, layer=layer)
        return
    yield from gated(name, sizes.width, sizes.inner, biased, family.fused, layer)


def gated(name: str, width: int, inner: int, biased: bool, fused: bool, layer: int) -> Iterator[Weight]:
    """A gated feed-forward layer: three matrices, two of them in one where they are fused."""
    if fused:
        yield from linear(f"{name}.gate_up_proj", width, 2 * inner, biased, layer=layer)
    else:
        yield from linear(f"{name}.gate_proj", width, inner, biased, layer=layer)
        yield from linear(f"{name}.up_proj", width, inner, biased, layer=layer)
    yield from linear(f"{name}.down_proj", inner, width, biased, layer=layer)


def _experts(name: str, layer: int, config: Config, family: Family, width: int) -> Iterator[Weight]:
    """transformers 5 keeps the experts of a layer in two parameters of three dimensions."""
    mixtral = family.experts == "mixtral"
    count = int(config["num_local_experts" if mixtral else "num_experts"])
    inner = int(config["intermediate_size" if mixtral else "moe_intermediate_size"])
    yield Weight(f"{name}.gate.weight", (count, width), Group.layers, layer)
    yield Weight(f"{name}.experts.gate_up_proj", (count, 2 * inner, width), Group.experts, layer)
    yield Weight(f"{name}.experts.down_proj", (count, width, inner), Group.experts, layer)
    if family.experts == "shared":
        shared = int(config["shared_expert_intermediate_size"])
        yield from gated(f"{name}.shared_expert", width, shared, False, False, layer)
        yield from linear(f"{name}.shared_expert_gate", width, 1, layer=layer)
