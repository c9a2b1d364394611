"""What a token costs a model: operations by the convention of `conf.flops`, bytes moved, weights to move. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from conf import flops
from launcher.plan.memory.estimate import Subject, attention_of, held_by
from launcher.plan.memory.held import BYTES
from launcher.plan.memory.layers import stacks_of
from launcher.plan.shapes.decoders import FAMILIES
from launcher.plan.shapes.weights import Group, Shape, Weight, given

MOVES = 6
"""How often the bytes that a layer keeps for its backward pass go through memory: written and read on the way up, read
on the way down, and their gradients, which are as many, written, read and added up."""


@dataclass(frozen=True)
class Cost:
    """Operations of a token in matrix products (`linear`), of a token that an encoder reads (`source`), and what
    attention needs to know. `moved` are bytes a token. `weights` and `trained` are elements; `layers` of all stacks."""

    linear: float
    source: float
    queries: int
    layers: int
    moved: float
    weights: int
    trained: int

    def operations(self, tokens: float, context: float, source_tokens: float = 0.0) -> float:
        """Of so many tokens, each in a document of `context` tokens."""
        return (
            tokens * (self.linear + flops.attention(context, self.queries, self.layers)) + source_tokens * self.source
        )


def cost_of(subject: Subject) -> Cost | None:
    """The cost of the subject's model under its method; None where not even the number of parameters is known."""
    parameters, held = subject.parameters, held_by(subject)
    if not parameters or held is None:
        return None
    trained = held.trainable
    if subject.shape is None or subject.trained is None:
        each = flops.each(True, True) if trained >= parameters else flops.each(False, True)
        layers = int(subject.model.get("num_hidden_layers") or 0)
        return Cost(float(each * parameters), 0.0, 0, layers, 0.0, parameters, trained)
    shape = subject.shape
    linear, source = _operations(subject, shape)
    paired = len(shape.stacks) > 1
    return Cost(
        linear=linear,
        source=source if paired else 0.0,
        queries=0 if paired else _queries(subject),
        layers=sum(shape.stacks),
        moved=MOVES * _kept(subject),
        weights=shape.parameters + sum(subject.trained.beside),
        trained=trained,
    )


def _operations(subject: Subject, shape: Shape) -> tuple[float, float]:
    """Operations of a token for all weights, those of an encoder in front of a decoder apart."""
    assert subject.trained is not None
    own = {weight.name for weight in subject.trained.own}
    passed = bool(subject.config.method.peft)
    share = flops.routed_share(subject.model)
    paired = len(shape.stacks) > 1
    linear, source = 6.0 * sum(subject.trained.beside), 0.0
    for weight in shape.weights:
        passed = passed or weight.name in own
        if not _multiplies(weight, shape, subject):
            continue
        operations = float(weight.size * flops.each(weight.name in own, passed))
        operations *= share if weight.group is Group.experts else 1.0
        if paired and "encoder." in weight.name and "decoder." not in weight.name:
            source += operations
        else:
            linear += operations
    return linear, source


def _multiplies(weight: Weight, shape: Shape, subject: Subject) -> bool:
    """Whether a token meets the weight in a matrix product: not where it is looked up, unless it is the head too."""
    if len(weight.shape) < 2:
        return False
    if weight.group is not Group.embedding:
        return True
    tied = shape.tied or (len(shape.stacks) > 1 and not shape.of(Group.head))
    return tied and weight.shape[0] == subject.model.get("vocab_size")


def _queries(subject: Subject) -> int:
    """Width of all heads of attention together."""
    kind = str(subject.model.get("model_type"))
    model = given(subject.model, FAMILIES[kind].defaults) if kind in FAMILIES else subject.model
    heads = int(model.get("num_attention_heads") or model.get("n_head") or model.get("n_heads") or 0)
    width = int(model.get("hidden_size") or model.get("n_embd") or model.get("dim") or 0)
    return heads * int(model.get("head_dim") or width // max(1, heads))


def _kept(subject: Subject) -> float:
    """Bytes that all layers keep of a token."""
    element = BYTES[subject.config.train.precision]
    stacks = stacks_of(subject.model, element, attention_of(subject.config, subject.packing))
    return sum(layer.token for stack in stacks or () for layer in stack.layers)
