"""A task that the model cannot learn, and keys that mean nothing for the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conf.schema import ProblemType, RunConfig, TaskConfig, TaskName
from launcher.check.libraries import generation_keys, model_types, unknown_keys
from launcher.check.numbers import Range
from launcher.facts.facts import Facts
from launcher.problems import Problem, nearest

TEXT_METRICS = ("rouge", "exact_match")
GENERATION_RANGES = {
    "max_new_tokens": Range(1),
    "num_beams": Range(1),
    "temperature": Range(0, above=True),
    "top_k": Range(0),
    "top_p": Range(0, 1, above=True),
}
"""Ranges of the keys of GenerationConfig that people set; one answer is compared for each document."""


OWNED_GENERATION = {
    "max_length": "counts the prompt of some models and not of others",
    "num_return_sequences": "is 1: one answer is compared for each document",
    "return_dict_in_generate": "changes what `generate` returns, which nobody reads here",
    "use_cache": "is always true",
    "max_time": "makes answers depend on the speed of the machine",
    "stop_strings": "needs a tokenizer, which an exported configuration does not have",
    "eos_token_id": "follows from the model, the tokenizer and the answers of the data",
    "pad_token_id": "follows from the tokenizer",
}
"""Keys of GenerationConfig that are not a person's to set here, and why."""


def task_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the task on this model, and with its keys."""
    yield from _architecture_problems(config, facts)
    for key, value, rule, near in _meaningless(config):
        yield Problem(key, value, rule, near)
    if config.task.name is TaskName.seq_cls:
        yield from _label_problems(config)
    else:
        yield from _answer_problems(config)


def _architecture_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Unknown architectures pass: they may come with code of their own, or with a newer transformers."""
    task, kind = config.task.name, str(facts.model.config.get("model_type") or "")
    key, value = "task.name", task.value
    if task is TaskName.causal_lm:
        if kind in model_types("seq2seq_lm"):
            rule = f"trains models that predict the next token; {kind} has an encoder and a decoder"
            yield Problem(key, value, rule, "task=seq2seq_lm")
        elif kind in model_types("masked_lm") and not facts.model.config.get("is_decoder"):
            rule = f"trains models that predict the next token; {kind} reads a text from both sides"
            yield Problem(key, value, rule, "task=seq_cls")
    elif task is TaskName.seq2seq_lm and kind not in model_types("seq2seq_lm"):
        if kind in model_types("causal_lm"):
            rule = f"trains models with an encoder and a decoder, such as t5 and bart; {kind} has a decoder alone"
            yield Problem(key, value, rule, "task=causal_lm, which learns to write texts after texts too")
        elif kind in model_types("masked_lm"):
            rule = f"trains models with an encoder and a decoder, such as t5 and bart; {kind} has an encoder alone"
            yield Problem(key, value, rule, "task=seq_cls")
    elif task is TaskName.seq_cls and kind in model_types("seq2seq_lm") & model_types("seq_cls"):
        # Heads of BART and T5 raise where a row has no end token: empty rows and the export's proof have none.
        rule = f"trains encoders and models that predict the next token; {kind} has an encoder and a decoder"
        yield Problem(key, value, rule, "task=seq2seq_lm, which learns to write the label")
    elif task is TaskName.seq_cls and kind not in model_types("seq_cls"):
        known = {other: kind in model_types(other) for other in ("causal_lm", "seq2seq_lm")}
        near = next((f"task={other}" for other, there in known.items() if there), "")
        if near or kind in model_types("masked_lm"):
            yield Problem(
                key, value, f"needs a model with a head for labels, and transformers has none for {kind}", near
            )


def _meaningless(config: RunConfig) -> Iterator[tuple[str, str, str, str]]:
    """Keys that are given, and that the task has no use for: key, value, rule, nearest."""
    task, data, name = config.task, config.data, config.task.name
    if name is not TaskName.seq_cls:
        given: dict[str, Any] = {"labels": task.labels, "class_weights": task.class_weights}
        given |= {"balance_classes": task.balance_classes}
        given |= {"problem_type": task.problem_type.value if task.problem_type is not ProblemType.auto else None}
        for key, value in given.items():
            if value:
                yield (
                    f"task.{key}",
                    _shown(value),
                    f"means nothing for task={name.value}: it has no labels",
                    "task=seq_cls",
                )
        return
    given = {"task.generation": task.generation, "task.metrics": task.metrics}
    given |= {"task.max_predictions": task.max_predictions, "task.predict_with_generate": task.predict_with_generate}
    given |= {"train.eval_samples": config.train.eval_samples}
    for key, value in given.items():
        if value:
            yield key, _shown(value), "means nothing for task=seq_cls: it says labels and writes no text", ""
    for key, text in (("chat_template", data.chat_template), ("prompt_template", data.prompt_template)):
        if text is not None:
            yield f"data.{key}", text, "means nothing for task=seq_cls: texts are classified as they are", "null"


def _label_problems(config: RunConfig) -> Iterator[Problem]:
    task = config.task
    twice = sorted({label for label in task.labels if task.labels.count(label) > 1})
    if twice:
        yield Problem("task.labels", _shown(task.labels), f"has {', '.join(twice)} more than once")
    if task.problem_type is not ProblemType.regression and len(task.labels) == 1:
        yield Problem("task.labels", _shown(task.labels), "is one label; there have to be two to tell apart")
    if task.problem_type is ProblemType.regression:
        for key in ("class_weights", "balance_classes"):
            value = getattr(task, key)
            if value:
                rule = "weights labels, and task.problem_type=regression has numbers"
                yield Problem(f"task.{key}", _shown(value), rule, "task.problem_type=auto")
    if task.class_weights and task.balance_classes:
        rule = "computes the weights, and task.class_weights gives them; one of them"
        yield Problem("task.balance_classes", "true", rule, "false")
    for label, weight in task.class_weights.items():
        if task.labels and label not in task.labels:
            rule = f"is none of task.labels: {', '.join(task.labels)}"
            yield Problem(f"task.class_weights.{label}", f"{weight:g}", rule, nearest(label, task.labels))


def _answer_problems(config: RunConfig) -> Iterator[Problem]:
    task = config.task
    answers = task.name is TaskName.seq2seq_lm if task.predict_with_generate is None else task.predict_with_generate
    for metric in task.metrics:
        if metric not in TEXT_METRICS:
            rule = f"is no metric of answers; there are {', '.join(TEXT_METRICS)}"
            yield Problem("task.metrics", metric, rule, nearest(metric.lower(), TEXT_METRICS))
    for key, value in (("metrics", task.metrics), ("max_predictions", task.max_predictions)):
        if value and not answers:
            rule = "is about generated answers, and none are generated"
            yield Problem(f"task.{key}", _shown(value), rule, "task.predict_with_generate=true")
    yield from unknown_keys("task.generation", task.generation, generation_keys(), "transformers' GenerationConfig")
    yield from _generation_problems(task)
    if task.name is TaskName.seq2seq_lm and not config.data.completion_only_loss:
        rule = "means nothing for task=seq2seq_lm: the decoder writes the answer alone"
        yield Problem("data.completion_only_loss", "false", rule, "true")
    if task.name is TaskName.seq2seq_lm and config.data.chat_template is not None:
        rule = "means nothing for task=seq2seq_lm: its models have no turns"
        near = "data.prompt_template='summarize: {prompt}'"
        yield Problem("data.chat_template", config.data.chat_template, rule, near)


def _generation_problems(task: TaskConfig) -> Iterator[Problem]:
    for key in OWNED_GENERATION.keys() & task.generation.keys():
        near = "task.generation.max_new_tokens" if key.startswith("max_") else ""
        yield Problem(f"task.generation.{key}", _shown(task.generation[key]), OWNED_GENERATION[key], near)
    if task.generation.get("do_sample") and task.generation.get("num_beams", 1) != 1:
        rule = "draws tokens, which is done along one beam: an answer shall depend on the seed and its document alone"
        yield Problem("task.generation.do_sample", "true", rule, "task.generation.num_beams=1")
    for key, allowed in GENERATION_RANGES.items():
        number = task.generation.get(key)
        if isinstance(number, bool) or (number is not None and not isinstance(number, int | float)):
            yield Problem(f"task.generation.{key}", _shown(number), "has to be a number")
        elif number is not None and not allowed.holds(number):
            yield Problem(f"task.generation.{key}", f"{number:g}", allowed.words(number), allowed.nearest(number))
    sampling = [key for key in ("temperature", "top_p", "top_k", "typical_p", "min_p") if key in task.generation]
    if sampling and not task.generation.get("do_sample"):
        for key in sampling:
            rule = "is about drawing tokens, and task.generation.do_sample is not true: it would do nothing"
            yield Problem(
                f"task.generation.{key}", _shown(task.generation[key]), rule, "task.generation.do_sample=true"
            )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(part)}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
