"""The weights of a model by its config.json and its task, for the architectures that are known by formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from conf.schema import RunConfig, TaskName
from launcher.plan.shapes import encoders, pairs
from launcher.plan.shapes.decoders import FAMILIES, decoder
from launcher.plan.shapes.older import gpt2, gpt_neox
from launcher.plan.shapes.weights import Config, Shape

UNKNOWN_LABELS = 2
"""Labels of a head as long as the data has not said how many there are."""

_DECODERS: Mapping[str, Callable[[Config, int | None], Shape]] = {"gpt2": gpt2, "gpt_neox": gpt_neox}
_ENCODERS: Mapping[str, Callable[[Config, int], Shape]] = {
    "bert": encoders.bert,
    "roberta": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "xlm-roberta": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "camembert": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "distilbert": encoders.distilbert,
}
_PAIRS: Mapping[str, Callable[[Config], Shape]] = {
    "t5": pairs.t5,
    "mt5": lambda config: pairs.t5(config, multilingual=True),
    "bart": pairs.bart,
}
KNOWN = frozenset({*FAMILIES, *_DECODERS, *_ENCODERS, *_PAIRS})
"""Values of `model_type` for which there is a formula, for one task at least."""


def shape_of(config: Config, task: TaskName = TaskName.causal_lm, labels: int = UNKNOWN_LABELS) -> Shape | None:
    """The weights of the model that `config` describes, for a task; None where architecture or a size is not known.

    Args:
        labels: outputs of the head of `seq_cls`.
    """
    kind, classifies = str(config.get("model_type")), task is TaskName.seq_cls
    outputs = labels if classifies else None
    try:
        if kind in FAMILIES:
            return decoder(config, FAMILIES[kind], outputs)
        if kind in _DECODERS:
            return _DECODERS[kind](config, outputs)
        if kind in _ENCODERS and classifies:
            return _ENCODERS[kind](config, labels)
        return _PAIRS[kind](config) if kind in _PAIRS and not classifies else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def model_config(config: RunConfig, content: Config) -> dict[str, Any]:
    """The model's config.json, with the vocabulary of a tokenizer that will be trained."""
    shape = dict(content)
    if config.model.tokenizer_name_or_path == "train":
        shape.setdefault("vocab_size", config.model.tokenizer_vocab_size)
    return shape


def shape_by_formula(config: RunConfig, content: Config) -> Shape | None:
    """The weights of the configured model, whose config.json has this content; None where no formula knows it."""
    return shape_of(model_config(config, content), config.task.name, len(config.task.labels) or UNKNOWN_LABELS)


def count_parameters(config: Config, task: TaskName = TaskName.causal_lm, labels: int = UNKNOWN_LABELS) -> int | None:
    """Parameters of the model that `config` describes, for a task; None where they are not known."""
    shape = shape_of(config, task, labels)
    return None if shape is None else shape.parameters


def hidden_size(config: Config) -> int | None:
    """Width of the model's layers, by whichever name config.json gives it."""
    for source in (config, config.get("text_config") or {}):
        for name in ("hidden_size", "n_embd", "d_model", "dim"):
            if isinstance(source.get(name), int):
                return int(source[name])
    return None
