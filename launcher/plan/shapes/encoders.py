"""Encoders: BERT, its kin and DistilBERT, each with a head for labels, weight by weight."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.plan.shapes.weights import Config, Group, Shape, Weight, given, head, linear, norm, table

_BERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_DISTILBERT = {
    "vocab_size": 30522,
    "dim": 768,
    "hidden_dim": 3072,
    "n_layers": 6,
    "n_heads": 12,
    "max_position_embeddings": 512,
}


def bert(config: Config, labels: int, name: str = "bert", pooled: bool = True) -> Shape:
    """BERT with a head for labels; RoBERTa's head has the dense layer that BERT has in its body."""
    config = given(config, _BERT)
    width, inner, layers = (int(config[key]) for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    weights = [table(f"{name}.embeddings.{one}_embeddings", int(config[key]), width) for one, key in tables.items()]
    weights += norm(f"{name}.embeddings.LayerNorm", width, True, Group.embedding)
    matrices = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    matrices |= {"attention.output.dense": (width, width), "intermediate.dense": (width, inner)}
    matrices |= {"output.dense": (inner, width)}
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    for layer in range(layers):
        weights += _layer(f"{name}.encoder.layer.{layer}", layer, matrices, norms, width)
    if pooled:
        weights += linear(f"{name}.pooler.dense", width, width, True, Group.rest)
        weights += head("classifier", width, labels, True)
    else:
        weights += [*head("classifier.dense", width, width, True), *head("classifier.out_proj", width, labels, True)]
    return Shape(tuple(weights), (layers,))


def distilbert(config: Config, labels: int) -> Shape:
    """DistilBERT with its two-layer head."""
    config = given(config, _DISTILBERT)
    width, inner, layers = (int(config[key]) for key in ("dim", "hidden_dim", "n_layers"))
    name = "distilbert"
    weights = [
        table(f"{name}.embeddings.word_embeddings", int(config["vocab_size"]), width),
        table(f"{name}.embeddings.position_embeddings", int(config["max_position_embeddings"]), width),
        *norm(f"{name}.embeddings.LayerNorm", width, True, Group.embedding),
    ]
    matrices = {f"attention.{part}_lin": (width, width) for part in ("q", "k", "v", "out")}
    matrices |= {"ffn.lin1": (width, inner), "ffn.lin2": (inner, width)}
    for layer in range(layers):
        norms = ("sa_layer_norm", "output_layer_norm")
        weights += _layer(f"{name}.transformer.layer.{layer}", layer, matrices, norms, width)
    weights += [*head("pre_classifier", width, width, True), *head("classifier", width, labels, True)]
    return Shape(tuple(weights), (layers,))


def _layer(
    name: str, layer: int, matrices: Mapping[str, tuple[int, int]], norms: tuple[str, ...], width: int
) -> list[Weight]:
    weights = [
        weight
        for one, (inputs, outputs) in matrices.items()
        for weight in linear(f"{name}.{one}", inputs, outputs, True, layer=layer)
    ]
    return weights + [weight for one in norms for weight in norm(f"{name}.{one}", width, True, layer=layer)]
