"""What is known of metrics by their names: which a task has, and which way is better."""

from __future__ import annotations

from conf.schema import ProblemType, TaskConfig, TaskName

LESS_IS_BETTER = frozenset({"loss", "error", "perplexity", "mse", "mae"})
"""A metric with one of these words in its name is better the lower it is."""

OF_LABELS = tuple(
    f"{name}_{average}" for average in ("micro", "macro", "weighted") for name in ("precision", "recall", "f1")
)
OF_NUMBERS = ("mse", "mae", "r2", "pearson", "spearman")
OF_ANSWERS = {"rouge": ("rouge1", "rouge2", "rougeL"), "exact_match": ("exact_match",)}
"""Metrics of answers by the word of `task.metrics` that asks for them."""

HEADLINES = ("loss", "perplexity", "accuracy", "subset_accuracy", "f1_macro", "rougeL", "exact_match", "mse", "r2")
"""The metrics that a line about an evaluation shows, in this order, of those there are."""


def greater_is_better(metric: str) -> bool:
    """Whether more of a metric is better, by its name: not of losses and errors."""
    return LESS_IS_BETTER.isdisjoint(metric.lower().split("_"))


def generates(task: TaskConfig) -> bool:
    """Whether evaluations ask the model for answers."""
    if task.name is TaskName.seq_cls:
        return False
    return task.name is TaskName.seq2seq_lm if task.predict_with_generate is None else task.predict_with_generate


def metrics_of(task: TaskConfig) -> tuple[str, ...]:
    """The metrics that evaluations of a task can have, as far as its configuration tells."""
    if task.name is TaskName.seq_cls:
        several = (*(("subset_accuracy",) if task.problem_type is not ProblemType.single_label_classification else ()),)
        labels = ("accuracy", *several, *OF_LABELS)
        numbers = OF_NUMBERS if task.problem_type in (ProblemType.auto, ProblemType.regression) else ()
        return ("loss", *(() if task.problem_type is ProblemType.regression else labels), *numbers)
    wanted = (task.metrics or list(OF_ANSWERS)) if generates(task) else []
    answers = [metric for name in wanted for metric in OF_ANSWERS.get(name, ())]
    return ("loss", *(("perplexity",) if task.name is TaskName.causal_lm else ()), *answers)
