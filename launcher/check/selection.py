"""Where training rows come from and how some are held out: one kind of source, weights, sizes, splits."""

from __future__ import annotations

from collections.abc import Iterator

from conf.schema import DataConfig, RunConfig, SplitBy, TaskName
from launcher.facts.facts import Facts
from launcher.plan.rows import held_out, training_data, training_rows
from launcher.problems import Problem, nearest


def selection_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the choice of sources and with the rows held out."""
    if config.train.max_steps != 0 or _held_out_is_wanted(config.data):
        yield from _source_problems(config.data)
    yield from _weight_problems(config.data)
    yield from _size_problems(config.data, facts)
    yield from _split_problems(config, facts)


def _held_out_is_wanted(data: DataConfig) -> bool:
    """Whether evaluation alone needs the training data: rows of it, or a hub data set, are what is evaluated."""
    return bool(data.validation_size or data.test_size) or not (data.validation_file or data.test_file)


def _source_problems(data: DataConfig) -> Iterator[Problem]:
    kinds = [name for name in ("train_file", "train_files", "dataset_name") if getattr(data, name)]
    if len(kinds) == 1:
        return
    given = f"{' and '.join(kinds)} are given" if kinds else "none is given; the bundled demo is experiment=demo"
    rule = f"or data.train_files or data.dataset_name is needed, one of them: {given}"
    near = "" if data.train_file else "data.train_file=train.jsonl"
    yield Problem("data.train_file", data.train_file or "", rule, near)


def _weight_problems(data: DataConfig) -> Iterator[Problem]:
    for name, weight in data.weights.items():
        if name not in data.train_files:
            there = f"there are {', '.join(data.train_files)}" if data.train_files else "it has none"
            rule = f"is no source of data.train_files; {there}"
            yield Problem(f"data.weights.{name}", f"{weight:g}", rule, nearest(name, data.train_files))
    lacking = [name for name in data.train_files if name not in data.weights]
    if data.weights and lacking:
        rule = f"has none for {', '.join(lacking)}; each source needs one, or none has"
        near = " ".join(f"data.weights.{name}=1" for name in lacking)
        yield Problem("data.weights", ", ".join(data.weights), rule, near)


def _size_problems(data: DataConfig, facts: Facts) -> Iterator[Problem]:
    sizes = {"validation": data.validation_size, "test": data.test_size}
    taken = {name: size for name, size in sizes.items() if size > 0}
    both = [name for name in taken if getattr(data, f"{name}_file")]
    for name in both:
        rule = f"holds rows out of the training data, and data.{name}_file is given as well; give one of them"
        yield Problem(f"data.{name}_size", f"{taken[name]:g}", rule, "0")
    rows, estimated = training_rows(facts)
    too_many = bool(rows) and not estimated and held_out(data, rows or 0) >= (rows or 0)
    shares = sum(size for size in taken.values() if size < 1)
    if taken and not both and (too_many or shares >= 1):
        first, *others = (f"data.{name}_size={size:g}" for name, size in taken.items())
        key, value = first.split("=")
        count = f"the {rows} rows" if rows else "the rows"
        rule = f"leaves none of {count} to train on"
        yield Problem(key, value, f"with {others[0]} {rule}" if others else rule, "0.05")


def _split_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    data, task = config.data, config.task.name
    if data.split_by is SplitBy.random:
        if data.split_column:
            rule = "is read with data.split_by=stratified or grouped alone"
            yield Problem("data.split_column", data.split_column, rule, "data.split_by=grouped")
        return
    given = data.split_by.value
    if not data.validation_size and not data.test_size:
        rule = "says how rows are held out, and none are"
        yield Problem("data.split_by", given, rule, "data.validation_size=0.05")
    if data.split_column is None:
        if data.split_by is SplitBy.grouped:
            yield Problem("data.split_by", given, "needs data.split_column, whose values are the groups")
        elif task is not TaskName.seq_cls:
            yield Problem("data.split_by", given, f"needs data.split_column: task={task.value} has no labels")
        return
    for file in training_data(facts):
        if file.columns and data.split_column not in file.columns:
            rule = f"is no column of {file.given}; there are {', '.join(file.columns)}"
            yield Problem("data.split_column", data.split_column, rule, nearest(data.split_column, file.columns))
