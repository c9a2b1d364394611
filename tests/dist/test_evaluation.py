"""Evaluations of a run: the best model is what it hands back, it ends early, and a stop in between changes nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import encode_plan, read_plan
from conf.schema import ModelInit, RunConfig
from tests.dist.harness import launch_each
from tests.dist.runs import configuration, events, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model

pytestmark = pytest.mark.dist

STEPS = 30
RANKS = 2
CUT = 15
"""Step after which a copy of a run goes on in new ranks; no evaluation is due after it."""
Data = tuple[Path, dict[str, Any]]


def settings(stage: int, **changes: Any) -> RunConfig:
    """A run that soon learns its few documents by heart: its validation loss falls, then rises."""
    config = configuration(stage, 2, "exact", STEPS)
    config.optim.learning_rate = 1e-2
    config.checkpoint.save_steps = 3
    config.checkpoint.save_total_limit = 1
    config.train.eval_steps = 2
    config.train.load_best_model_at_end = True
    config.train.early_stopping_patience = 3
    for name, value in changes.items():
        setattr(config.train, name, value)
    return config


RUNS = {
    "zero2": settings(2),
    "zero3": settings(3),
    "kept": settings(2),
    "last": settings(2, load_best_model_at_end=False, early_stopping_patience=0),
}
RUNS["kept"].checkpoint.save_total_limit = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    lengths = np.random.default_rng(1).integers(4, 32, 16).tolist()
    splits = {
        "train": write_documents(folder / "train", lengths, 20),
        "validation": write_documents(folder / "validation", lengths, 20, seed=1),
        "test": write_documents(folder / "test", lengths, 20, seed=2),
    }
    return write_model(folder / "model", "llama"), splits


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Runs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    made = {name: write_run(folder / name, config, *data) for name, config in RUNS.items()}
    for run in made.values():
        run.run_json.write_text(encode_plan(replace(read_plan(run.run_json), export_at_end=True)))
    launch_each(train_runs, RANKS, [(list(made.values()),)])
    return made


@pytest.fixture(scope="module")
def after(whole: dict[str, RunFolder], data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Runs that begin with what others left: one that goes on in the middle, and ones that evaluate an export."""
    folder = tmp_path_factory.mktemp("after")
    cut = RunFolder(shutil.copytree(whole["kept"].path, folder / "cut", symlinks=True))
    for path in cut.checkpoints.iterdir():
        if int(path.name.removeprefix("step-")) > CUT:
            shutil.rmtree(path)
    for name in ("events", "outcome", "metrics"):
        getattr(cut, name).unlink()
    made = {"cut": cut}
    for stage in (1, 3):
        config = settings(stage, max_steps=0, load_best_model_at_end=False, early_stopping_patience=0)
        config.model.init = ModelInit.pretrained
        config.model.model_name_or_path = str(whole["zero3"].export)
        splits = {name: split for name, split in data[1].items() if name != "train"}
        made[f"alone{stage}"] = write_run(folder / f"alone{stage}", config, data[0], splits)
    launch_each(train_runs, RANKS, [([made["cut"], made["alone3"]],)])
    launch_each(train_runs, 1, [([made["alone1"]],)])
    return made


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_the_best_model_is_what_a_run_hands_back(name: str, whole: dict[str, RunFolder]) -> None:
    run = whole[name]
    found = outcome(run)
    validations = {line["step"]: line for line in evaluations(run, "validation")}
    trained = {step: line["loss"] for step, line in validations.items() if step}
    best = min(trained, key=lambda step: trained[step])
    assert best < max(trained), "the run never got worse: it does not show which model is handed back"
    assert (found.state, found.best_step) == (State.done, best)
    assert found.metrics["eval/loss"] == trained[best]
    tests = evaluations(run, "test")
    assert [line["step"] for line in tests] == [0, best]
    assert found.metrics["test/loss"] == tests[-1]["loss"]
    # The newest and the best are kept, where one is the limit; what is exported is the best.
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [f"step-{best:08d}", f"step-{found.step:08d}"]
    assert found.export_verified
    assert json.loads((run.export / "muster.json").read_text())["step"] == best


def test_a_run_ends_early_when_it_gets_no_better(whole: dict[str, RunFolder]) -> None:
    for name in ("zero2", "zero3"):
        found = outcome(whole[name])
        steps = [line["step"] for line in evaluations(whole[name], "validation")]
        assert found.step < STEPS
        assert steps[-1] == found.step
        assert steps[-1] - (found.best_step or 0) == 3 * 2
        assert found.reason.startswith("stopped early: eval/loss was no better than")
        assert "in 3 evaluations in a row" in found.reason


def test_a_run_that_does_not_ask_for_it_hands_back_the_last_model_and_is_told_that_it_over_fits(
    whole: dict[str, RunFolder],
) -> None:
    run = whole["last"]
    found = outcome(run)
    assert (found.step, found.best_step) == (STEPS, None)
    assert found.metrics["eval/loss"] == evaluations(run, "validation")[-1]["loss"]
    warnings = [line["text"] for line in events(run, "warning") if line.get("about") == "overfitting"]
    assert len(warnings) == 1
    assert warnings[0].startswith("over-fitting: from step")


def test_going_on_between_evaluations_is_the_same_as_never_having_stopped(
    whole: dict[str, RunFolder], after: dict[str, RunFolder]
) -> None:
    undisturbed, cut = whole["kept"], after["cut"]
    expected = [line for line in evaluations(undisturbed, "validation") if line["step"] > CUT]
    assert [plain(line) for line in evaluations(cut, "validation")] == [plain(line) for line in expected]
    old, new = outcome(undisturbed), outcome(cut)
    assert (new.reason, new.step, new.best_step, new.metrics) == (old.reason, old.step, old.best_step, old.metrics)
    assert (old.best_step or 0) < CUT < old.step, "nothing that a checkpoint has to remember lies before the cut"


def test_evaluation_alone_repeats_the_figures_of_the_run_on_any_number_of_ranks(
    whole: dict[str, RunFolder], after: dict[str, RunFolder]
) -> None:
    expected = outcome(whole["zero3"]).metrics
    for stage in (1, 3):
        run = after[f"alone{stage}"]
        found = outcome(run)
        assert (found.state, found.step, found.checkpoint, found.best_step) == (State.done, 0, None, None)
        assert found.metrics == pytest.approx(expected, rel=1e-5)
        assert not run.checkpoints.exists()
        assert not run.export.exists()


def evaluations(run: RunFolder, split: str) -> list[dict[str, Any]]:
    """The events of a split's evaluations."""
    return [line for line in events(run, "evaluation") if line["split"] == split]


def plain(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("time", "attempt")}
