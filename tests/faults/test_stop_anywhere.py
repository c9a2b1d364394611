"""Row 11: a stop in the data step, while loading, before the first step, in an evaluation, a save, an export."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import StopReason, ask_to_stop
from tests.faults.local_runs import LIMIT_S, SHORT, run_to_end, said, started, steps_of, wait_for
from tests.slurm.live import lines, outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 14
TINY = [*SHORT, "experiment=demo", f"train.max_steps={STEPS}", "checkpoint.save_steps=5"]


@dataclass(frozen=True)
class Moment:
    """When the stop comes: as soon as an event has these words; and whether steps were made before it."""

    words: tuple[str, ...]
    trained: bool
    overrides: tuple[str, ...] = ()


MOMENTS = {
    "data step": Moment(('"phase":"prepare"',), False),
    "loading": Moment(('"phase":"load"',), False),
    "warm-up": Moment(('"event":"trainable"',), False),
    "first evaluation": Moment(('"phase":"evaluate"',), False, ("train.eval_on_start=true",)),
    "evaluation": Moment(('"phase":"evaluate"',), True, ("train.eval_strategy=steps", "train.eval_steps=4")),
    "generation": Moment(
        ('"phase":"answer"',),
        True,
        ("train.eval_strategy=steps", "train.eval_steps=4", "task.predict_with_generate=true"),
    ),
    "save": Moment(('"phase":"save"',), True, ("checkpoint.async_save=false",)),
    "save beside the training": Moment(('"phase":"save"',), True),
    "between steps": Moment(('"phase":"train"',), True),
    "export": Moment(('"phase":"export"', "writing weights"), True),
}
QUICK = ("data step", "save")
"""Of each class one that runs always."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stops")


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=() if name in QUICK else (pytest.mark.long,)) for name in MOMENTS]
)
def test_a_stop_is_heard(moment: str, root: Path, figures: dict[str, Any]) -> None:
    """One valid checkpoint of the last step that was made, or none where none was; then it goes on from there."""
    when, name = MOMENTS[moment], moment.replace(" ", "-")
    words = [*TINY, *when.overrides, f"data.cache_dir={root}/cache-{name}"]
    with started(root, *words, name=name) as (process, folder):
        stopped_at = stop_when(folder, when.words)
        wait_for(lambda: outcome(folder).get("state"), process, "an outcome")
        process.wait(60)
    assert outcome(folder)["state"] == "stopped", said(process)
    figures["noticed_s"] = round(time_of(folder, "attempt_ended") - stopped_at, 1)

    made = steps_of(folder, 0)
    saves = [event for event in lines(folder.events) if event["event"] == "checkpoint"]
    assert len([save for save in saves if save["time"] >= stopped_at]) <= 1
    assert bool(made) == when.trained
    assert [save["step"] for save in saves][-1:] == made[-1:]
    assert not list(folder.path.glob(".export*"))
    figures["steps_lost"] = 0

    run_to_end(root, "resume", str(folder.path))
    assert outcome(folder)["state"] == "done"
    assert outcome(folder)["export_verified"] is True
    assert made + steps_of(folder, 1) == list(range(1, STEPS + 1))


def stop_when(folder: RunFolder, words: tuple[str, ...]) -> float:
    """Write STOP as soon as an event has the words, some of which are true for a tenth of a second; when that was."""
    deadline = time.monotonic() + LIMIT_S
    text = ""
    while not all(word in text for word in words):
        assert time.monotonic() < deadline, f"no event with {words}"
        time.sleep(0.002)
        text = folder.events.read_text() if folder.events.exists() else ""
    ask_to_stop(folder.stop, StopReason.stopped)
    return time.time()


def time_of(folder: RunFolder, event: str) -> float:
    return next(float(line["time"]) for line in lines(folder.events) if line["event"] == event)
