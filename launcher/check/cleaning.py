"""Rules that take rows out of the training data, and columns that several sources have to have between them."""

from __future__ import annotations

from collections.abc import Iterator

from conf.schema import DataConfig, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.rows import training_data
from launcher.problems import Problem, nearest


def cleaning_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with `data.clean`, and with columns that none of several sources has."""
    yield from _column_problems(config.data, facts)
    yield from _clean_problems(config.data)


def _column_problems(data: DataConfig, facts: Facts) -> Iterator[Problem]:
    files = [file for file in training_data(facts) if file.columns and not file.error]
    if len(files) != len(data.train_files) or not files:
        return
    known = list(dict.fromkeys(column for file in files for column in file.columns))
    for role, column in data.columns.items():
        if column not in known:
            rule = f"is no column of any source in data.train_files; there are {', '.join(known)}"
            yield Problem(f"data.columns.{role}", column, rule, nearest(column, known))


def _clean_problems(data: DataConfig) -> Iterator[Problem]:
    clean = data.clean
    if clean.min_length > data.max_length:
        rule = f"is more than data.max_length={data.max_length}: nothing would be left"
        yield Problem("data.clean.min_length", str(clean.min_length), rule, str(data.max_length))
    others = (data.validation_file, data.test_file, data.validation_size, data.test_size, data.dataset_name)
    if clean.drop_leaks and not any(others):
        rule = "leaves out training rows that are in the validation or test data, and there is none"
        yield Problem("data.clean.drop_leaks", "true", rule, "false, data.validation_size=0.05")
