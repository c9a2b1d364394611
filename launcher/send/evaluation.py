"""The configuration of a run that only evaluates: the model of a run, or any model, on the data that is named.

Such a run goes the same road as every other, with `train.max_steps=0`: no optimizer, no checkpoint, no export.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from conf.layout import RunFolder
from conf.schema import (
    CleanConfig,
    DataConfig,
    ExportWhen,
    MethodConfig,
    ModelInit,
    Offload,
    ProblemType,
    RunConfig,
    SplitBy,
    TaskConfig,
    TaskName,
)
from launcher.compose.compose import compose
from launcher.facts.model import TRAIN_TOKENIZER
from launcher.plan.content import run_name
from launcher.problems import ConfigurationError, NotFoundError, Problem
from launcher.send.replan import amend

EVALUATED = ("data.test_file", "data.validation_file", "data.dataset_name")
SUFFIX = "evaluation"

TASKS = {
    "ForSequenceClassification": TaskName.seq_cls,
    "ForConditionalGeneration": TaskName.seq2seq_lm,
    "ForCausalLM": TaskName.causal_lm,
}
"""Task of a model by how the name of its class ends."""


def of_run(folder: RunFolder, config: RunConfig, words: list[str], config_dir: str | None) -> RunConfig:
    """The evaluation of a run's exported model: on the run's own validation and test data, or on what `words` name.

    Raises:
        ConfigurationError: `words` are wrong.
    """
    composed = compose(words, config_dir)
    data = _without_data(config.data) if names_data(words) else _without_training(config)
    task = _with_labels(config.task, _labels_of_run(folder))
    if not _has_training(data):
        task = replace(task, balance_classes=False)
    model = replace(
        config.model,
        init=ModelInit.pretrained,
        model_name_or_path=str(folder.export),
        revision=None,
        tokenizer_name_or_path=None,
        shape={},
    )
    name = f"{run_name(config)}-{SUFFIX}"
    base = replace(config, name=name, model=model, method=MethodConfig(), data=data, task=task)
    return _named(_only_evaluating(amend(base, words, composed)), words)


def of_model(model: str, words: list[str], config_dir: str | None) -> RunConfig:
    """The evaluation of a model, a folder or a name of the hub, on the data that `words` name.

    Raises:
        ConfigurationError: `words` are wrong, or the model is an adapter alone.
    """
    config = compose(words, config_dir)
    folder = Path(model).expanduser()
    shape = _json(folder / "config.json")
    if not shape and (folder / "adapter_config.json").is_file():
        raise ConfigurationError([Problem("MODEL", model, "is an adapter; give the model that it is merged into")])
    task = config.task
    if not any(word.startswith(("task=", "task.name=")) for word in words):
        task = replace(task, name=_task_of(shape, task.name))
    labels = [str(name) for _, name in sorted(shape.get("id2label", {}).items(), key=lambda pair: int(pair[0]))]
    kind = shape.get("problem_type") or ProblemType.auto.value
    if task.name is TaskName.seq_cls and labels and not all(name.startswith("LABEL_") for name in labels):
        task = _with_labels(task, (str(kind), labels))
    given = replace(config.model, init=ModelInit.pretrained, model_name_or_path=model, shape={})
    if given.tokenizer_name_or_path == TRAIN_TOKENIZER:  # as in model=tiny, the default
        given = replace(given, tokenizer_name_or_path=None)
    name = config.name or f"{folder.name}-{SUFFIX}"
    return _named(_only_evaluating(replace(config, name=name, model=given, task=task)), words)


def names_data(words: list[str]) -> bool:
    """Whether overrides say what is evaluated."""
    return any(word.lstrip("+").partition("=")[0] in (*EVALUATED, "data") for word in words)


def require_export(folder: RunFolder) -> None:
    """Refuse a run whose model is not there.

    Raises:
        NotFoundError: with the command that writes it.
    """
    if not (folder.export / "config.json").is_file():
        name = folder.path.name
        if (folder.adapter / "adapter_config.json").is_file():
            raise NotFoundError(f"{name} has an adapter alone; a run with method.merge=true writes the merged model")
        raise NotFoundError(f"{name} has no exported model; write it: muster export {name}")


def _only_evaluating(config: RunConfig) -> RunConfig:
    train = replace(
        config.train,
        max_steps=0,
        load_best_model_at_end=False,
        early_stopping_patience=0,
        eval_samples=0,
        gradient_accumulation_steps=None,
    )
    parallel = replace(config.parallel, offload_optimizer=Offload.none)
    checkpoint = replace(config.checkpoint, export=ExportWhen.never)
    optim = replace(config.optim, learning_rates={})  # of parameters that an adapter had, which is merged by now
    return replace(config, train=train, parallel=parallel, checkpoint=checkpoint, optim=optim)


def _named(config: RunConfig, words: list[str]) -> RunConfig:
    """With a name that no run has yet, unless one is given: files may have changed since the last evaluation."""
    if any(word.startswith("name=") for word in words):
        return config
    root, name = Path(config.run_root).expanduser(), str(config.name)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    free = next(name for name in names if not any(root.glob(f"{name}-????????")))
    return replace(config, name=free)


def _without_data(data: DataConfig) -> DataConfig:
    return replace(
        data,
        train_file=None,
        train_files={},
        weights={},
        validation_file=None,
        test_file=None,
        dataset_name=None,
        dataset_config_name=None,
        validation_size=0.0,
        test_size=0.0,
        split_by=SplitBy.random,
        split_column=None,
        clean=CleanConfig(),
        streaming=False,
    )


def _without_training(config: RunConfig) -> DataConfig:
    """The run's data without what only training needs, where the evaluated rows lie in files of their own."""
    data = config.data
    apart = bool(data.validation_file or data.test_file) and not (data.validation_size or data.test_size)
    if not apart or data.dataset_name or config.task.balance_classes:
        return replace(data, streaming=False)
    return replace(_without_data(data), validation_file=data.validation_file, test_file=data.test_file)


def _has_training(data: DataConfig) -> bool:
    return bool(data.train_file or data.train_files or data.dataset_name)


def _with_labels(task: TaskConfig, labels: tuple[str, list[str]] | None) -> TaskConfig:
    if labels is None or task.name is not TaskName.seq_cls:
        return task
    return replace(task, problem_type=ProblemType(labels[0]), labels=labels[1])


def _labels_of_run(folder: RunFolder) -> tuple[str, list[str]] | None:
    labels = _json(folder.data_json).get("labels")
    return None if not labels else (labels["problem_type"], labels["names"])


def _task_of(shape: dict[str, Any], default: TaskName) -> TaskName:
    names = shape.get("architectures") or [""]
    return next((task for ending, task in TASKS.items() if str(names[0]).endswith(ending)), default)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}
