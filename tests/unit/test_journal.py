"""Lines of metrics.jsonl and events.jsonl."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from train.metrics import lines as line_files
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


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: the kernel writes what fits, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("more", [0, 1, 30, 100], ids=["none", "a byte", "half a line", "a line and a half"])
def test_lines_wait_for_a_full_disk(tmp_path: Path, more: int) -> None:
    folder = RunFolder(tmp_path)
    journal = Journal(folder, 0)
    journal.metrics(1, {"a": 1})
    with room_for(folder.metrics.stat().st_size + more):
        for step in range(2, 50):
            journal.metrics(step, {"a": step})
        assert len(folder.metrics.read_bytes().splitlines()) < 5
    assert not folder.events.exists()
    journal.metrics(50, {"a": 50})
    assert [line["step"] for line in lines(folder.metrics)] == list(range(1, 51))
    (warning,) = lines(folder.events)
    assert "metrics.jsonl waited" in warning["text"]
    assert "File too large" in warning["text"]
    assert "all are there now" in warning["text"]
    journal.metrics(51, {"a": 51})
    assert len(lines(folder.events)) == 1


def test_the_oldest_lines_go_where_too_many_wait(tmp_path: Path) -> None:
    file = line_files.Lines(tmp_path / "lines")
    count = line_files.MOST_WAITING + 10
    with room_for(0):
        for number in range(count):
            assert file.append(b"%d" % number) is None
    said = file.append(b"last")
    assert said is not None
    assert "11 of them are lost" in said
    written = (tmp_path / "lines").read_text().splitlines()
    assert written == [*map(str, range(11, count)), "last"]


def test_a_line_that_a_kill_cut_short_stays_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.events.write_text('{"event":"warning"}\n{"event":"war')
    Journal(folder, 1).event("warning", text="x")
    cut, whole = folder.events.read_text().splitlines()[1:]
    assert cut == '{"event":"war'
    assert json.loads(whole)["text"] == "x"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_who_prints_survives_a_full_disk() -> None:
    program = "from train.node.streams import use_patient_streams; use_patient_streams(); print('x' * 100000)"
    with Path("/dev/full").open("w") as full:
        patient = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=full, check=False)
        plain = subprocess.run([sys.executable, "-c", "print('x' * 100000)"], stdout=full, stderr=full, check=False)
    assert (patient.returncode, plain.returncode != 0) == (0, True)
