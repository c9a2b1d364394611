"""GPT-2 and GPT-NeoX (Pythia), weight by weight."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.plan.shapes.weights import Config, Group, Shape, Weight, head, linear, norm, table


def gpt2(config: Config, labels: int | None) -> Shape:
    """GPT-2, whose matrices are convolutions of length one: their shape is inputs × outputs."""
    width, layers, vocabulary = int(config["n_embd"]), int(config["n_layer"]), int(config["vocab_size"])
    inner = int(config.get("n_inner") or 4 * width)
    tied = bool(config.get("tie_word_embeddings", True))
    positions = int(config.get("n_positions") or 1024)
    weights = [table("transformer.wte", vocabulary, width), table("transformer.wpe", positions, width)]
    matrices = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
    matrices |= {"mlp.c_fc": (width, inner), "mlp.c_proj": (inner, width)}
    for layer in range(layers):
        for one, (inputs, outputs) in matrices.items():
            weights += _convolution(f"transformer.h.{layer}.{one}", inputs, outputs, layer)
        for one in ("ln_1", "ln_2"):
            weights += norm(f"transformer.h.{layer}.{one}", width, True, layer=layer)
    weights += norm("transformer.ln_f", width, True, Group.rest)
    if labels is not None:
        weights += head("score", width, labels)
    elif not tied:
        weights += head("lm_head", width, vocabulary)
    return Shape(tuple(weights), (layers,), tied and labels is None)


def _convolution(name: str, inputs: int, outputs: int, layer: int) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (inputs, outputs), Group.layers, layer, inputs, outputs)
    yield Weight(f"{name}.bias", (outputs,), Group.layers, layer)


def gpt_neox(config: Config, labels: int | None) -> Shape:
    """GPT-NeoX and Pythia."""
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
    tied, biased = bool(config.get("tie_word_embeddings", False)), bool(config.get("attention_bias", True))
    weights = [table("gpt_neox.embed_in", vocabulary, width)]
    for layer in range(layers):
        name = f"gpt_neox.layers.{layer}"
        for one in ("input_layernorm", "post_attention_layernorm"):
            weights += norm(f"{name}.{one}", width, True, layer=layer)
        weights += linear(f"{name}.attention.query_key_value", width, 3 * width, biased, layer=layer)
        weights += linear(f"{name}.attention.dense", width, width, biased, layer=layer)
        weights += linear(f"{name}.mlp.dense_h_to_4h", width, inner, True, layer=layer)
        weights += linear(f"{name}.mlp.dense_4h_to_h", inner, width, True, layer=layer)
    weights += norm("gpt_neox.final_layer_norm", width, True, Group.rest)
    if labels is not None:
        weights += head("score", width, labels)
    elif not tied:
        weights += head("lm_head", width, vocabulary)
    return Shape(tuple(weights), (layers,), tied and labels is None)
