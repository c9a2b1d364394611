"""What is known of metrics by their names: which way is better, and which a task can have."""

from __future__ import annotations

from conf.schema import TaskName

LESS_IS_BETTER = ("loss", "error", "perplexity", "mse", "mae", "rmse")
"""A metric whose name ends in one of these, as a word of its own, is better the lower it is."""

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "auc", "roc")
REGRESSION = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
ANSWERS = ("rouge", "exact_match", "bleu")
"""Beginnings of the names that tasks give their metrics."""

BEGINNINGS = {
    TaskName.causal_lm: ("loss", "perplexity", *ANSWERS),
    TaskName.seq2seq_lm: ("loss", "perplexity", *ANSWERS),
    TaskName.seq_cls: ("loss", *CLASSIFICATION, *REGRESSION, "hamming", "exact_match", "subset", "matthews", "mcc"),
}
"""How the metrics of a task may begin; which there are exactly, only the evaluation knows."""

HEADLINES = ("loss", "perplexity", "accuracy", "f1_macro", "f1_micro", "rougeL", "exact_match", "mse", "mae", "r2")
"""The metrics that a line about an evaluation shows, in this order, of those there are."""


def greater_is_better(metric: str) -> bool:
    """Whether more of a metric is better, by its name: not of losses and errors."""
    words = metric.lower().replace("/", "_").split("_")
    return not any(word in LESS_IS_BETTER for word in words)


def may_have(task: TaskName, metric: str) -> bool:
    """Whether evaluations of a task can have a metric of this name."""
    return metric.removeprefix("eval/").lower().startswith(BEGINNINGS[task])
