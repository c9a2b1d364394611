"""Encoders with a decoder: T5, mT5 and BART, weight by weight."""

from __future__ import annotations

from launcher.plan.shapes.weights import Config, Group, Shape, Weight, given, linear, norm, table

_T5 = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "relu",
}
_MT5 = {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
_BART = {
    "vocab_size": 50265,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
}
_BART_OFFSET = 2
"""Rows before the first position in BART's learned positions."""


def t5_config(config: Config, multilingual: bool = False) -> Config:
    """A config.json of T5 or mT5 with transformers' defaults."""
    return given(config, {**_T5, **(_MT5 if multilingual else {})})


def bart_config(config: Config) -> Config:
    """A config.json of BART with transformers' defaults."""
    return given(config, _BART)


def t5(config: Config, multilingual: bool = False) -> Shape:
    """T5 and mT5, with plain or gated feed-forward layers; transformers 5 always ties their embeddings and head."""
    config = t5_config(config, multilingual)
    width, inner = int(config["d_model"]), int(config["d_ff"])
    inside = int(config["num_heads"]) * int(config["d_kv"])
    gated = str(config["feed_forward_proj"]).startswith("gated-")
    counts = {"encoder": int(config["num_layers"])}
    counts["decoder"] = int(config.get("num_decoder_layers") or counts["encoder"])
    biases = (int(config["relative_attention_num_buckets"]), int(config["num_heads"]))
    weights = [table("shared", int(config["vocab_size"]), width)]
    for stack, layers in counts.items():
        attentions = ["SelfAttention", *(["EncDecAttention"] if stack == "decoder" else [])]
        for layer in range(layers):
            name = f"{stack}.block.{layer}.layer"
            for place, attention in enumerate(attentions):
                for part in ("q", "k", "v"):
                    weights += linear(f"{name}.{place}.{attention}.{part}", width, inside, layer=layer)
                weights += linear(f"{name}.{place}.{attention}.o", inside, width, layer=layer)
                weights += norm(f"{name}.{place}.layer_norm", width, layer=layer)
            if layer == 0:
                bias = f"{name}.0.SelfAttention.relative_attention_bias.weight"
                weights.append(Weight(bias, biases, Group.layers, layer))
            last = f"{name}.{len(attentions)}"
            for part in ("wi_0", "wi_1") if gated else ("wi",):
                weights += linear(f"{last}.DenseReluDense.{part}", width, inner, layer=layer)
            weights += linear(f"{last}.DenseReluDense.wo", inner, width, layer=layer)
            weights += norm(f"{last}.layer_norm", width, layer=layer)
        weights += norm(f"{stack}.final_layer_norm", width, group=Group.rest)
    return Shape(tuple(weights), tuple(counts.values()), True)


def bart(config: Config) -> Shape:
    """BART; its head is its embeddings."""
    config = bart_config(config)
    width = int(config["d_model"])
    positions = int(config["max_position_embeddings"]) + _BART_OFFSET
    weights = [table("model.shared", int(config["vocab_size"]), width)]
    counts = []
    for stack in ("encoder", "decoder"):
        inner, layers = int(config[f"{stack}_ffn_dim"]), int(config[f"{stack}_layers"])
        counts.append(layers)
        weights.append(table(f"model.{stack}.embed_positions", positions, width))
        attentions = ["self_attn", *(["encoder_attn"] if stack == "decoder" else [])]
        for layer in range(layers):
            name = f"model.{stack}.layers.{layer}"
            for attention in attentions:
                for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                    weights += linear(f"{name}.{attention}.{part}", width, width, True, layer=layer)
                weights += norm(f"{name}.{attention}_layer_norm", width, True, layer=layer)
            weights += linear(f"{name}.fc1", width, inner, True, layer=layer)
            weights += linear(f"{name}.fc2", inner, width, True, layer=layer)
            weights += norm(f"{name}.final_layer_norm", width, True, layer=layer)
        weights += norm(f"model.{stack}.layernorm_embedding", width, True, Group.rest)
    return Shape(tuple(weights), tuple(counts), True)
