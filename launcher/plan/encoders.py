"""Encoders (BERT and its kin) and pairs of encoder and decoder (T5, BART), taken apart as in `launcher.plan.parts`."""

from __future__ import annotations

from launcher.plan.parts import Config, Matrix, Parts, given

_BERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_DISTILBERT = {"vocab_size": 30522, "dim": 768, "hidden_dim": 3072, "n_layers": 6, "max_position_embeddings": 512}
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
    "max_position_embeddings": 1024,
}
_BART_OFFSET = 2
"""Rows before the first position in BART's learned positions."""


def _layers(prefix: str, count: int, sizes: dict[str, tuple[int, int]], biased: bool) -> list[Matrix]:
    return [
        Matrix(f"{prefix}.{layer}.{name}", inputs, outputs, biased)
        for layer in range(count)
        for name, (inputs, outputs) in sizes.items()
    ]


def bert(config: Config, labels: int, name: str = "bert", pooled: bool = True) -> Parts:
    """BERT with a head for labels; RoBERTa's head has the dense layer that BERT has in its body."""
    config = given(config, _BERT)
    width, inner, layers = (int(config[key]) for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tables = ("vocab_size", "max_position_embeddings", "type_vocab_size")
    sizes = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    sizes |= {"attention.output.dense": (width, width), "intermediate.dense": (width, inner)}
    sizes |= {"output.dense": (inner, width)}
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    dense = width * width + width
    top = labels * width + labels
    matrices = _layers(f"{name}.encoder.layer", layers, sizes, biased=True)
    if pooled:
        matrices.append(Matrix(f"{name}.pooler.dense", width, width, biased=True))
    embeddings = sum(int(config[key]) for key in tables) * width + 2 * width
    rest, head = (dense, top) if pooled else (0, dense + top)
    return Parts(embeddings, [[layer] * layers], rest, head, matrices)


def distilbert(config: Config, labels: int) -> Parts:
    """DistilBERT with its two-layer head."""
    config = given(config, _DISTILBERT)
    width, inner, layers = (int(config[key]) for key in ("dim", "hidden_dim", "n_layers"))
    sizes = {f"attention.{part}_lin": (width, width) for part in ("q", "k", "v", "out")}
    sizes |= {"ffn.lin1": (width, inner), "ffn.lin2": (inner, width)}
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    embeddings = (int(config["vocab_size"]) + int(config["max_position_embeddings"])) * width + 2 * width
    head = width * width + width + labels * width + labels
    matrices = _layers("distilbert.transformer.layer", layers, sizes, biased=True)
    return Parts(embeddings, [[layer] * layers], 0, head, matrices)


def t5(config: Config, multilingual: bool = False) -> Parts:
    """T5 and mT5, with plain or gated feed-forward layers; transformers 5 always ties their embeddings and head."""
    config = given(config, {**_T5, **(_MT5 if multilingual else {})})
    width, inner = int(config["d_model"]), int(config["d_ff"])
    heads = int(config["num_heads"]) * int(config["d_kv"])
    gated = str(config["feed_forward_proj"]).startswith("gated-")
    counts = {"encoder": int(config["num_layers"])}
    counts["decoder"] = int(config.get("num_decoder_layers") or counts["encoder"])
    matrices, stacks = [], []
    for stack, layers in counts.items():
        attentions = ["SelfAttention", *(["EncDecAttention"] if stack == "decoder" else [])]
        sizes: dict[str, tuple[int, int]] = {}
        for number, attention in enumerate(attentions):
            sizes |= {f"layer.{number}.{attention}.{part}": (width, heads) for part in ("q", "k", "v")}
            sizes[f"layer.{number}.{attention}.o"] = (heads, width)
        feed = f"layer.{len(attentions)}.DenseReluDense"
        sizes |= {f"{feed}.{part}": (width, inner) for part in (("wi_0", "wi_1") if gated else ("wi",))}
        sizes[f"{feed}.wo"] = (inner, width)
        matrices += _layers(f"{stack}.block", layers, sizes, biased=False)
        layer = sum(inputs * outputs for inputs, outputs in sizes.values()) + (len(attentions) + 1) * width
        first = layer + int(config["relative_attention_num_buckets"]) * int(config["num_heads"])
        stacks.append([first, *[layer] * (layers - 1)])
    embeddings = int(config["vocab_size"]) * width
    return Parts(embeddings, stacks, 2 * width, 0, matrices)


def bart(config: Config) -> Parts:
    """BART; its head is its embeddings."""
    config = given(config, _BART)
    width = int(config["d_model"])
    attention = 4 * (width * width + width) + 2 * width
    matrices, stacks = [], []
    for stack in ("encoder", "decoder"):
        inner, layers = int(config[f"{stack}_ffn_dim"]), int(config[f"{stack}_layers"])
        kinds = ["self_attn", *(["encoder_attn"] if stack == "decoder" else [])]
        parts = ("k_proj", "v_proj", "q_proj", "out_proj")
        sizes = {f"{kind}.{part}": (width, width) for kind in kinds for part in parts}
        sizes |= {"fc1": (width, inner), "fc2": (inner, width)}
        matrices += _layers(f"model.{stack}.layers", layers, sizes, biased=True)
        layer = len(kinds) * attention + 2 * width * inner + inner + width + 2 * width
        stacks.append([layer] * layers)
    positions = int(config["max_position_embeddings"]) + _BART_OFFSET
    embeddings = (int(config["vocab_size"]) + 2 * positions) * width
    return Parts(embeddings, stacks, 2 * 2 * width, 0, matrices)
