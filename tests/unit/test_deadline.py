"""When a run has to be told that its time is nearly up, and what it tells the job script of that."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.timing import MARGIN_S, Timing, read_timing, write_timing
from train.deadline import Deadline


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.attempt(0).folder.mkdir(parents=True)
    run.attempt(1).folder.mkdir()
    return run


def test_nothing_is_said_before_a_save_was_measured(folder: RunFolder) -> None:
    end = time.time() + 1000
    deadline = Deadline(folder, 0, end)
    deadline.timing.add_pause(5.0)
    deadline.say()
    assert not folder.attempt(0).lead.exists()
    assert not deadline.is_near(end - 1)


def test_it_stops_when_a_save_just_fits(folder: RunFolder) -> None:
    end = time.time() + 1000
    deadline = Deadline(folder, 0, end)
    deadline.timing.add_pause(5.0)
    deadline.add_save(20.0, 100)
    lead = MARGIN_S + 1.2 * (10.0 + 20.0)
    assert folder.attempt(0).lead.read_text() == f"{lead:.0f}\n"
    assert not deadline.is_near(end - lead - 1)
    assert deadline.is_near(end - lead + 1)
    deadline.saving = True  # that one has to end first
    assert deadline.is_near(end - lead - 19)


def test_the_next_attempt_knows_from_its_start(folder: RunFolder) -> None:
    Deadline(folder, 0, None).add_save(20.0, 100)
    assert read_timing(folder.timing) == Timing(0.0, 20.0, 100)
    assert not folder.attempt(0).lead.exists()  # a job without a limit
    Deadline(folder, 1, time.time() + 1000).say()
    assert folder.attempt(1).lead.exists()


def test_half_of_a_short_job_is_left_for_training(folder: RunFolder) -> None:
    write_timing(folder.timing, Timing(1.0, 500.0, 100))
    end = time.time() + 100
    deadline = Deadline(folder, 0, end)
    assert not deadline.is_near(end - 52)
    assert deadline.is_near(end - 48)


def test_a_file_that_cannot_be_read_is_none(folder: RunFolder) -> None:
    folder.timing.write_text("{broken")
    assert read_timing(folder.timing) == Timing()
