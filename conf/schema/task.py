"""What a model learns to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from conf.schema.key import key


class TaskName(Enum):
    """What a model learns to do."""

    causal_lm = "causal_lm"
    seq2seq_lm = "seq2seq_lm"
    seq_cls = "seq_cls"
    script = "script"


class ProblemType(Enum):
    """What a label is, in Hugging Face's spelling; `auto` decides by the training data."""

    auto = "auto"
    regression = "regression"
    single_label_classification = "single_label_classification"
    multi_label_classification = "multi_label_classification"


@dataclass
class TaskConfig:
    """What the model learns to do. `task=causal_lm|seq2seq_lm|seq_cls|script`."""

    name: TaskName = key(
        TaskName.causal_lm,
        "`causal_lm`: the next token; `seq2seq_lm`: a text from a text, by an encoder and a decoder; `seq_cls`: a "
        "label, several or a number for a text; `script`: whatever your own program does (`train.entrypoint`).",
    )
    problem_type: ProblemType = key(
        ProblemType.auto,
        "`seq_cls`: one label of a set, several of them, or numbers (regression). `auto`: lists of labels are several, "
        "fractions are numbers, everything else is one label.",
    )
    labels: list[str] = key(
        [],
        "`seq_cls`: names of the labels in the order of the model's outputs. Empty: those of the data, sorted.",
    )
    class_weights: dict[str, float] = key(
        {}, "`seq_cls`: factor of a label's loss, by its name; labels that are not named have 1."
    )
    balance_classes: bool = key(
        False,
        "`seq_cls`: weight each label's loss by how rare it is in the training data (rows / labels / rows of it).",
    )
    predict_with_generate: Optional[bool] = key(
        None,
        "Let the model answer at each evaluation and compare its answers (see `metrics`). Null: for `seq2seq_lm` only. "
        "Takes far longer than the loss alone.",
    )
    generation: dict[str, Any] = key(
        {},
        "How answers are generated: keys of transformers' GenerationConfig, such as `max_new_tokens`, `num_beams`, "
        "`do_sample`, `temperature`, `top_p`. Written into the exported model too.",
    )
    max_predictions: int = key(
        0, "Documents of a split that are answered at an evaluation, the first ones; 0: all of them."
    )
    metrics: list[str] = key(
        [],
        "What answers are measured by: `rouge` (ROUGE-1, -2, -L), `exact_match`. Empty: both. Labels have their own.",
    )
