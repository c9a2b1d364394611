"""Labels that the data files show before anything queues: unknown names, words for numbers, classes too small to split.

Only what was seen counts: a class is too small where every row was read, an unknown name is one wherever it was met.
Lists of labels, Parquet and hub data are the data step's to judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from conf.formats import COLUMNS
from conf.label_names import label_number
from conf.schema import DataConfig, DataFormat, ProblemType, RunConfig, SplitBy, TaskName
from launcher.facts.facts import DataFile, Facts
from launcher.plan.rows import training_data
from launcher.problems import Problem, nearest

SHOWN = 8


def label_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the labels, and with classes that rows are held out of."""
    training = training_data(facts)
    if config.train.max_steps != 0 and config.data.split_by is SplitBy.stratified:
        yield from _class_problems(config, training)
    if config.task.name is not TaskName.seq_cls or config.train.max_steps == 0:
        return  # what an evaluation alone may meet, its model says
    seen = [file.values.get(label_column(file, config.data)) for file in training]
    if not all(seen):
        return
    if _are_numbers(config, (name for file in seen for name in file or ())):
        yield from _number_problems(config, training)
        return
    names = config.task.labels
    if not names and all(file.whole for file in training):
        names = list(dict.fromkeys(name for file in seen for name in file or ()))
        yield from _set_problems(config, training, names)
    if names:
        own = facts.model.config.get("id2label")
        known = list(own.values()) if isinstance(own, dict) and not config.task.labels else []
        for file in facts.data_files.values():
            yield from _unknown_problems(config.data, file, [*names, *map(str, known)])


def label_column(file: DataFile, data: DataConfig) -> str:
    """The column of a file that holds labels; empty where there is none."""
    names = COLUMNS[DataFormat.classification]["label"]
    named = (data.columns[alias] for alias in ("label", *names) if alias in data.columns)
    return next((name for name in (*named, *names) if name in file.columns), "")


def _are_numbers(config: RunConfig, names: Iterable[str]) -> bool:
    """Whether the labels are to be read as numbers: it was said, or some are fractions and none a word."""
    if config.task.problem_type is not ProblemType.auto:
        return config.task.problem_type is ProblemType.regression
    numbers = [label_number(name) for name in names]
    return None not in numbers and any(number is not None and not number.is_integer() for number in numbers)


def _number_problems(config: RunConfig, training: list[DataFile]) -> Iterator[Problem]:
    for file in training:
        words = file.values[label_column(file, config.data)]
        found = next((name for name in words if label_number(name) is None), None)
        if found is not None:
            rule = f"learns numbers, and {file.given} has the label {found!r} in line {words[found].line}"
            yield Problem("task.problem_type", config.task.problem_type.value, rule, ProblemType.auto.value)


def _set_problems(config: RunConfig, training: list[DataFile], names: list[str]) -> Iterator[Problem]:
    if len(names) == 1 and config.task.problem_type is not ProblemType.multi_label_classification:
        rule = f"has the label {names[0]!r} in every row: there is nothing to tell apart"
        yield Problem(training[0].key, training[0].given, rule)
    for label, weight in config.task.class_weights.items():
        if label not in names:
            rule = f"is no label of the training data; there are {_some(names)}"
            yield Problem(f"task.class_weights.{label}", f"{weight:g}", rule, nearest(label, names))


def _unknown_problems(data: DataConfig, file: DataFile, names: list[str]) -> Iterator[Problem]:
    for name, seen in file.values.get(label_column(file, data), {}).items():
        if name not in names:
            where = "task.labels" if file.key.startswith("data.train") else "the labels"
            rule = f"has the label {name!r} in line {seen.line}, which is none of {where}: {_some(names)}"
            yield Problem(file.key, file.given, rule, nearest(name, names))
            return


def _class_problems(config: RunConfig, training: list[DataFile]) -> Iterator[Problem]:
    data = config.data
    if not training or not all(file.whole for file in training):
        return
    counts: Counter[str] = Counter()
    for file in training:
        column = data.split_column or label_column(file, data)
        if column not in file.values:
            return
        counts.update({name: seen.count for name, seen in file.values[column].items()})
    splits = 1 + (data.validation_size > 0) + (data.test_size > 0)
    small = [f"{name!r} ({count})" for name, count in counts.items() if count < splits]
    if small:
        rule = f"wants a row of each class in each of {splits} splits, and there are too few of {_some(small)}"
        yield Problem("data.split_by", data.split_by.value, rule, SplitBy.random.value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names):,} in all)" if len(names) > SHOWN else "")
