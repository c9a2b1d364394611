"""Sources, weights, splits and cleaning that cannot be, found before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conf.schema import CleanConfig, RunConfig, SplitBy, TaskName
from launcher.check.cleaning import cleaning_problems
from launcher.check.selection import selection_problems
from launcher.facts.facts import DataFile, Facts
from launcher.plan.selection import selection_notes

FILE = DataFile("data.train_file", "train.jsonl", "/d/train.jsonl", 900, 50, columns=("prompt", "response", "kind"))
FACTS = Facts(data_files={"data.train_file": FILE})
TWO = Facts(
    data_files={
        "data.train_files.a": replace(FILE, key="data.train_files.a"),
        "data.train_files.b": replace(FILE, key="data.train_files.b", columns=("question", "answer")),
    }
)
FILES = {"a": "a.jsonl", "b": "b.jsonl"}

CASES: dict[str, tuple[Facts, dict[str, Any], str]] = {
    "none": (FACTS, {"train_file": None}, "none is given; the bundled demo is experiment=demo"),
    "two": (FACTS, {"train_files": FILES}, "train_file and train_files are given"),
    "weights alone": (FACTS, {"weights": {"a": 1.0}}, "data.weights.a=1 is no source of data.train_files; it has none"),
    "unknown": (
        TWO,
        {"train_file": None, "train_files": FILES, "weights": {"a": 1.0, "b": 1.0, "bb": 2.0}},
        "nearest: b",
    ),
    "lacking": (TWO, {"train_file": None, "train_files": FILES, "weights": {"a": 1.0}}, "nearest: data.weights.b=1"),
    "column": (TWO, {"train_file": None, "train_files": FILES, "columns": {"prompt": "qestion"}}, "nearest: question"),
    "file and size": (FACTS, {"test_size": 0.1, "test_file": "t.jsonl"}, "data.test_file is given as well"),
    "all held out": (FACTS, {"test_size": 50.0}, "data.test_size=50 leaves none of the 50 rows"),
    "shares": (
        FACTS,
        {"validation_size": 0.5, "test_size": 0.5},
        "data.validation_size=0.5 with data.test_size=0.5 leaves none of the 50 rows",
    ),
    "group": (FACTS, {"split_by": SplitBy.grouped, "test_size": 5.0}, "needs data.split_column, whose values"),
    "labels": (FACTS, {"split_by": SplitBy.stratified, "test_size": 5.0}, "task=causal_lm has no labels"),
    "nothing held out": (FACTS, {"split_by": SplitBy.grouped, "split_column": "kind"}, "and none are"),
    "random": (
        FACTS,
        {"split_column": "kind", "test_size": 5.0},
        "read with data.split_by=stratified or grouped alone",
    ),
    "no column": (
        FACTS,
        {"split_by": SplitBy.grouped, "split_column": "kinds", "test_size": 5.0},
        "is no column of train.jsonl; there are prompt, response, kind; nearest: kind",
    ),
    "short": (FACTS, {"clean": CleanConfig(min_length=2000)}, "is more than data.max_length=1024"),
    "leaks": (FACTS, {"clean": CleanConfig(drop_leaks=True)}, "and there is none"),
}


def config_of(values: dict[str, Any]) -> RunConfig:
    config = RunConfig()
    config.data.train_file = "train.jsonl"
    for name, value in values.items():
        setattr(config.data, name, value)
    return config


@pytest.mark.parametrize("case", CASES)
def test_one_problem_with_what_would_do(case: str) -> None:
    facts, values, said = CASES[case]
    config = config_of(values)
    problems = [str(problem) for problem in (*selection_problems(config, facts), *cleaning_problems(config, facts))]
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_what_is_possible_has_no_problem_and_is_said_in_the_plan() -> None:
    clean = CleanConfig(drop_leaks=True, min_length=5)
    config = config_of({"validation_size": 0.1, "test_size": 3.0, "split_by": SplitBy.stratified, "clean": clean})
    config.task.name = TaskName.seq_cls
    assert [*selection_problems(config, FACTS), *cleaning_problems(config, FACTS)] == []
    held, cleaned = selection_notes(config)
    assert held == (
        "held out: 10.0% of the training rows for validation and 3 training rows for test, stratified by the label, "
        "by train.seed=42"
    )
    assert "below 5 tokens, rows that are in the validation or test data" in cleaned
    mixed = config_of({"train_file": None, "train_files": FILES, "weights": {"a": 1.0, "b": 3.0}})
    assert selection_notes(mixed)[0].startswith("mixed by data.weights: a 25.0%, b 75.0%")
    assert selection_notes(config_of({})) == []
