"""Number of parameters of a model by its config.json and its task, by formula, for the architectures that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from conf.schema import TaskName
from launcher.plan import encoders
from launcher.plan.parts import FAMILIES, Config, Parts, gpt2, gpt_neox, llama_like

UNKNOWN_LABELS = 2
"""Labels of a head as long as the data has not said how many there are."""

_DECODERS: Mapping[str, Callable[[Config, int | None], Parts]] = {"gpt2": gpt2, "gpt_neox": gpt_neox}
_ENCODERS: Mapping[str, Callable[[Config, int], Parts]] = {
    "bert": encoders.bert,
    "roberta": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "xlm-roberta": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "camembert": lambda config, labels: encoders.bert(config, labels, "roberta", pooled=False),
    "distilbert": encoders.distilbert,
}
_PAIRS: Mapping[str, Callable[[Config], Parts]] = {
    "t5": encoders.t5,
    "mt5": lambda config: encoders.t5(config, multilingual=True),
    "bart": encoders.bart,
}


def parts_of(config: Config, task: TaskName = TaskName.causal_lm, labels: int = UNKNOWN_LABELS) -> Parts | None:
    """The model that `config` describes, for a task; None where the architecture or a size is not known.

    Args:
        labels: outputs of the head of `seq_cls`.
    """
    kind, classifies = str(config.get("model_type")), task is TaskName.seq_cls
    outputs = labels if classifies else None
    try:
        if kind in FAMILIES:
            return llama_like(config, FAMILIES[kind], outputs)
        if kind in _DECODERS:
            return _DECODERS[kind](config, outputs)
        if kind in _ENCODERS and classifies:
            return _ENCODERS[kind](config, labels)
        return _PAIRS[kind](config) if kind in _PAIRS and not classifies else None
    except (KeyError, TypeError, ValueError):
        return None


def count_parameters(config: Config, task: TaskName = TaskName.causal_lm, labels: int = UNKNOWN_LABELS) -> int | None:
    """Parameters of the model that `config` describes, for a task; None where they are not known."""
    parts = parts_of(config, task, labels)
    return None if parts is None else parts.parameters


def hidden_size(config: Config) -> int | None:
    """Width of the model's layers, by whichever name config.json gives it."""
    for source in (config, config.get("text_config") or {}):
        for name in ("hidden_size", "n_embd", "d_model", "dim"):
            if isinstance(source.get(name), int):
                return int(source[name])
    return None
