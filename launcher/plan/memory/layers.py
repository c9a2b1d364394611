"""What a layer keeps from its forward pass for its backward pass, in bytes a token, by architecture.

Counted from the operations of transformers 5 (`modeling_*.py` of each family) and from what torch's autograd saves of
each (`tools/autograd/derivatives.yaml`): a product saves both factors, a linear layer its input, softmax and tanh their
results, a dropout its mask. Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1) count GPT in the same way. torch's
own memory tracker agrees within 5 % (`benchmarks/activations.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from launcher.plan.shapes.decoders import FAMILIES, Family, Sizes, is_sparse, of_family, sizes_of
from launcher.plan.shapes.pairs import bart_config, t5_config
from launcher.plan.shapes.weights import Config

FP32 = 4
_POST = "post_feedforward_layernorm"
_GRADIENTS_OF_NORM = 6 * FP32 + 2
DROPPED = 1
"""Bytes of a dropout's mask (CUDA keeps one byte an element)."""


class Attention(Enum):
    """What the memory of attention depends on.

    `packed` and `flash` know groups of heads and need no mask; `masked` is torch's own with the mask of padding, for
    which transformers repeats keys and values; `eager` keeps the scores.
    """

    packed = "packed"
    flash = "flash"
    masked = "masked"
    eager = "eager"


@dataclass(frozen=True)
class Cost:
    """Bytes kept: `token` for a token, `pair` for a token and a key that it looks at (mask or scores), `source` for a
    token of the encoder that a decoder's layer reads. `beside` is what the backward pass needs on top for a token.
    `for_weights` is the part of `token` that frozen weights do not keep: what only their own gradients are made of."""

    token: float = 0.0
    pair: float = 0.0
    source: float = 0.0
    beside: float = 0.0
    for_weights: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.token + other.token,
            self.pair + other.pair,
            self.source + other.source,
            max(self.beside, other.beside),
            self.for_weights + other.for_weights,
        )


@dataclass(frozen=True)
class Stack:
    """The layers of one stack, first to last; `width` is what a checkpoint keeps of a token."""

    layers: tuple[Cost, ...]
    width: int
    is_decoder: bool = True


def stacks_of(config: Config, element: int, attention: Attention) -> list[Stack] | None:
    """The stacks of a model; None where what its layers keep is not known.

    Args:
        element: bytes of an element in the precision of the forward pass.
    """
    kind = str(config.get("model_type"))
    try:
        if kind in FAMILIES:
            return [_decoder(config, FAMILIES[kind], element, attention)]
        if kind in _OTHERS:
            return _OTHERS[kind](config, element, attention)
    except (KeyError, TypeError, ValueError):
        return None
    return None


def norm(kind: str, width: int, element: int) -> float:
    """What a norm keeps, its result left out (the linear layer behind it keeps that): RMS norms an fp32 copy of the
    input and the scaled one, in 16 or 32 bits; torch's own layer norm its input."""
    kept = {"rms": FP32 + element, "rms32": 2 * FP32, "fp32": FP32, "layer": element}[kind]
    return kept * width + 8


def core(heads: int, queries: int, keys: int, element: int, attention: Attention, softcap: bool = False) -> Cost:
    """Attention itself: queries, keys, values, the output (which the projection behind it reads), and what scores or
    masks take for a token and key."""
    repeated = queries if attention in (Attention.masked, Attention.eager) else keys
    token = element * (queries + 2 * repeated + queries) + FP32 * heads
    pair = 0.0
    if attention is Attention.masked:
        pair = element
    if attention is Attention.eager:
        # softmax in fp32, its copy in the values' precision, and the tanh of a soft cap
        pair = heads * (FP32 + (element if element != FP32 else 0) + element * softcap)
        token -= FP32 * heads
    return Cost(token, pair)


def gelu_products(activation: str) -> int:
    """Tensors as wide as the feed-forward layer that an activation keeps, its result left out: one where torch has it
    whole, four where transformers spells `gelu_new` out (`activations.py`, `NewGELUActivation`)."""
    return 4 if activation in ("gelu_new", "gelu_fast") else 1


def _decoder(config: Config, family: Family, element: int, attention: Attention) -> Stack:
    config = of_family(config, family)
    sizes = sizes_of(config)
    layers = tuple(_decoder_layer(layer, config, family, sizes, element, attention) for layer in range(sizes.layers))
    return Stack(layers, sizes.width)


def _decoder_layer(
    layer: int, config: Config, family: Family, sizes: Sizes, element: int, attention: Attention
) -> Cost:
    width = sizes.width
    norms = family.computed_norms or len(family.norms)
    token = norms * norm(family.norm, width, element)
    # the inputs of attention and of the feed-forward layer; Phi's are one
    token += element * width * (1 if family.plain else 2)
    if family.query_key_norm:
        token += norm(family.norm, sizes.queries + sizes.keys, element)
    if family.partial and attention is not Attention.eager:
        token += element * sizes.queries
    if family.fused and (attention in (Attention.packed, Attention.flash) or sizes.heads == sizes.key_heads):
        # values that nothing copies are a part of the joint projection, so that all of it stays
        token += element * (sizes.queries + sizes.keys)
    # a norm behind the layer, weighted in fp32, has its gradients in fp32 while everything is still kept
    beside = _GRADIENTS_OF_NORM * width if family.norm == "rms32" and family.norms[-1] == _POST else 0
    scaled = {"rms": element, "rms32": FP32}.get(family.norm, 0) * norms * width
    cost = Cost(token, beside=beside, for_weights=scaled + 2 * element * width)
    cost += core(sizes.heads, sizes.queries, sizes.keys, element, attention, family.softcap)
    return cost + _feed_forward(layer, config, family, sizes, element)


def _feed_forward(layer: int, config: Config, family: Family, sizes: Sizes, element: int) -> Cost:
    """A gated layer keeps gate, its activation, the other factor and the product; backward holds the gradients of three
    of them at once."""
    width = sizes.width
    if family.experts and is_sparse(layer, config, family):
        chosen = int(config["num_experts_per_tok"])
        mixtral = family.experts == "mixtral"
        inner = int(config["intermediate_size" if mixtral else "moe_intermediate_size"])
        # each chosen expert reads and writes a copy of the token; gate and up are halves of one product, so that their
        # gradients are laid together (integrations/moe.py, `_default_apply_gate`)
        token = element * chosen * (2 * width + 4 * inner)
        beside = element * (2 * width + chosen * (5 * inner + 3 * width))
        if family.experts == "shared":
            token += element * (4 * int(config["shared_expert_intermediate_size"]) + width)
        return Cost(token, beside=beside)
    if family.plain:
        kept = gelu_products(str(config.get("hidden_act", "gelu_new"))) + 1
        return Cost(element * kept * sizes.inner, beside=element * (2 * width + 2 * sizes.inner))
    beside = element * (2 * width + 2 * sizes.inner)
    return Cost(element * 4 * sizes.inner, beside=beside, for_weights=element * sizes.inner)


def _gpt2(config: Config, element: int, attention: Attention) -> list[Stack]:
    width, layers = int(config["n_embd"]), int(config["n_layer"])
    inner = int(config.get("n_inner") or 4 * width)
    dropped = 2 * DROPPED * width * (float(config.get("resid_pdrop", 0.1)) > 0)
    products = gelu_products(str(config.get("activation_function", "gelu_new"))) + 1
    cost = Cost(
        2 * norm("layer", width, element) + 2 * element * width + dropped + element * products * inner,
        beside=element * (2 * width + 2 * inner),
    )
    return [Stack((cost + core(int(config["n_head"]), width, width, element, attention),) * layers, width)]


def _gpt_neox(config: Config, element: int, attention: Attention) -> list[Stack]:
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    # one input for both norms; values are a part of the joint projection, so that all of it stays; the output is copied
    token = norm("layer", width, element) + 2 * element * width + element * width * 2 + element * width
    products = gelu_products(str(config.get("hidden_act", "gelu"))) + 1
    cost = Cost(token + element * products * inner, beside=element * (2 * width + 2 * inner))
    return [Stack((cost + core(heads, width, width, element, attention),) * layers, width)]


def _bert(config: Config, element: int, attention: Attention) -> list[Stack]:
    width, inner = int(config.get("hidden_size") or 768), int(config.get("intermediate_size") or 3072)
    layers, heads = int(config.get("num_hidden_layers") or 12), int(config.get("num_attention_heads") or 12)
    return [_post_norm(width, inner, layers, heads, element, attention)]


def _distilbert(config: Config, element: int, attention: Attention) -> list[Stack]:
    width, inner = int(config.get("dim") or 768), int(config.get("hidden_dim") or 3072)
    return [
        _post_norm(width, inner, int(config.get("n_layers") or 6), int(config.get("n_heads") or 12), element, attention)
    ]


def _post_norm(width: int, inner: int, layers: int, heads: int, element: int, attention: Attention) -> Stack:
    token = 2 * norm("layer", width, element) + 2 * element * width + 2 * DROPPED * width + 2 * element * inner
    cost = Cost(token, beside=element * (2 * width + 2 * inner))
    return Stack((cost + core(heads, width, width, element, attention),) * layers, width, is_decoder=False)


def _t5(config: Config, element: int, attention: Attention, multilingual: bool = False) -> list[Stack]:
    config = t5_config(config, multilingual)
    width, inner, heads = int(config["d_model"]), int(config["d_ff"]), int(config["num_heads"])
    inside = heads * int(config["d_kv"])
    gated = str(config["feed_forward_proj"]).startswith("gated-")
    # T5's norm squares an fp32 copy, scales the input itself and keeps both
    one = (FP32 if element != FP32 else 0) * width + 3 * element * width + DROPPED * width + 8
    feed = Cost(one + inner * (element * (7 if gated else 2) + DROPPED), beside=element * (2 * width + 2 * inner))
    attend = Cost(one) + core(heads, inside, inside, element, attention)
    # a bias for each head lies in the mask
    attend = attend + Cost(pair=element * heads if attention is Attention.masked else 0)
    cross = Cost(one + 2 * element * inside, source=2 * element * inside)
    encoder = int(config["num_layers"])
    decoder = int(config.get("num_decoder_layers") or encoder)
    return [
        Stack((attend + feed,) * encoder, width, is_decoder=False),
        Stack((attend + cross + feed,) * decoder, width),
    ]


def _bart(config: Config, element: int, attention: Attention) -> list[Stack]:
    config = bart_config(config)
    width = int(config["d_model"])
    stacks = []
    for stack in ("encoder", "decoder"):
        heads, inner = int(config[f"{stack}_attention_heads"]), int(config[f"{stack}_ffn_dim"])
        layer = _post_norm(width, inner, 1, heads, element, attention).layers[0]
        if stack == "decoder":
            cross = norm("layer", width, element) + element * width * 3 + DROPPED * width
            layer = layer + Cost(cross, source=2 * element * width)
        stacks.append(Stack((layer,) * int(config[f"{stack}_layers"]), width, stack == "decoder"))
    return stacks


_OTHERS = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "camembert": _bert,
    "distilbert": _distilbert,
    "t5": _t5,
    "mt5": lambda config, element, attention: _t5(config, element, attention, multilingual=True),
    "bart": _bart,
}
