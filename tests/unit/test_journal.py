"""Lines of metrics.jsonl and events.jsonl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from train.metrics.journal import Journal


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_flat_and_numbers_that_are_none_are_words(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    Journal(folder, 2).metrics(7, {"train/loss": float("nan"), "a": float("inf"), "b": float("-inf"), "c": 1.5, "d": 3})
    (line,) = lines(folder.metrics)
    assert line.pop("time") > 1.7e9
    assert line == {"step": 7, "attempt": 2, "train/loss": "nan", "a": "inf", "b": "-inf", "c": 1.5, "d": 3}


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o700, 0o600), (0o750, 0o640)])
def test_a_file_is_as_readable_as_its_folder(tmp_path: Path, folder_mode: int, file_mode: int) -> None:
    tmp_path.chmod(folder_mode)
    before = os.umask(0o077)
    try:
        Journal(RunFolder(tmp_path), 0).event("warning", text="x")
    finally:
        os.umask(before)
    assert RunFolder(tmp_path).events.stat().st_mode & 0o777 == file_mode


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    journal = Journal(RunFolder(tmp_path), 0, active=False)
    journal.metrics(1, {"a": 1})
    journal.event("warning", text="x")
    journal.phase("train")
    assert list(tmp_path.iterdir()) == []


def test_a_phase_is_said_at_its_start_and_end_and_not_too_often_between(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    journal = Journal(folder, 0)
    for done in range(1000):
        journal.phase("evaluate", done + 1, 1000, "micro batches")
    journal.phase("train")
    said = [(line["phase"], line.get("done")) for line in lines(folder.events)]
    assert said[0] == ("evaluate", 1)
    assert said[-2:] == [("evaluate", 1000), ("train", None)]
    assert len(said) < 20
