"""Numbers that go wrong on one rank: every rank leaves the step out, the weights stay, the budget ends it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.outcome import Cause, State
from conf.schema import NonFinite, Offload, OnSpike, RunConfig
from tests.dist.harness import launch_each
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model

pytestmark = pytest.mark.dist

STEPS = 6
POISON = 95
"""A token whose embedding is NaN, in one document alone."""
Data = tuple[Path, dict[str, Any]]


def settings(stage: int, precision: str, offload: bool = False) -> RunConfig:
    config = configuration(stage, 2, "exact", STEPS, precision)
    config.train.logging_steps = 1
    config.checkpoint.save_steps, config.checkpoint.save_total_limit = 1, STEPS
    if offload:
        config.parallel.offload_optimizer = Offload.cpu
    return config


RUNS = {
    "zero0-fp32": settings(0, "fp32"),
    "zero1-fp32": settings(1, "fp32"),
    "zero2-bf16": settings(2, "bf16"),
    "zero2-bf16-offload": settings(2, "bf16", offload=True),
    "zero3-fp32": settings(3, "fp32"),
    "zero3-bf16": settings(3, "bf16"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Of 19 documents one has the token whose embedding is NaN."""
    folder = tmp_path_factory.mktemp("data")
    lengths = np.random.default_rng(1).integers(4, 32, 19).tolist()
    split = write_documents(folder / "train", lengths, vocabulary=90, poison={7: POISON})
    return poisoned_model(folder / "model"), {"train": split}


def poisoned_model(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    write_model(folder, "llama")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][POISON] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def runs(data: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, RunFolder], list[Any]]:
    folder = tmp_path_factory.mktemp("runs")
    made = {name: write_run(folder / name, config, *data) for name, config in RUNS.items()}
    for name, change in {"budget": {"max_skipped_steps": 1}, "end": {"non_finite": NonFinite.end}}.items():
        config = settings(2, "bf16")
        for key, value in change.items():
            setattr(config.health, key, value)
        made[name] = write_run(folder / name, config, *data)
    (endings,) = launch_each(train_runs, 2, [(list(made.values()),)])
    return made, endings


def left_out(run: RunFolder) -> list[int]:
    return [event["step"] for event in events(run, "warning") if event.get("about") == "non_finite"]


@pytest.mark.parametrize("name", RUNS)
def test_a_step_without_a_finite_gradient_changes_nothing(name: str, runs: tuple[dict[str, RunFolder], Any]) -> None:
    import torch

    run = runs[0][name]
    steps = left_out(run)
    assert 2 <= len(steps) <= 3  # the document comes once an epoch of 2.4 steps
    logged = [line["step"] for line in metrics(run) if "train/loss" in line]
    assert logged == [step for step in range(1, STEPS + 1) if step not in steps]
    assert all(math.isfinite(line["train/loss"]) for line in metrics(run) if "train/loss" in line)
    assert (outcome(run).state, outcome(run).step) == (State.done, STEPS)
    if not name.startswith("zero3"):
        states = run.checkpoint(STEPS) / "states" / "mp_rank_00_model_states.pt"
        module = torch.load(states, weights_only=False)["module"]
        for key, tensor in module.items():
            bad = (~torch.isfinite(tensor)).nonzero()[:, 0].unique().tolist()
            assert bad == ([POISON] if key == "model.embed_tokens.weight" else [])


def test_all_stages_leave_out_the_same_steps_on_the_same_curve(runs: tuple[dict[str, RunFolder], Any]) -> None:
    curves = {
        name: [line["train/loss"] for line in metrics(runs[0][name]) if "train/loss" in line]
        for name in ("zero0-fp32", "zero1-fp32", "zero3-fp32")
    }
    for curve in curves.values():
        assert curve == pytest.approx(curves["zero0-fp32"], rel=1e-6)
    assert len({tuple(left_out(runs[0][name])) for name in RUNS}) == 1


def test_the_batch_of_the_rank_at_fault_is_kept(runs: tuple[dict[str, RunFolder], Any]) -> None:
    run = runs[0]["zero2-bf16"]
    said = [event for event in events(run, "warning") if event.get("about") == "non_finite"]
    for event in said:
        kept = sorted((run.attempt(0).folder / "suspects").glob(f"step-{event['step']:08d}-*"))
        assert [path.name for path in kept] == [run.attempt(0).suspect(event["step"], event["rank"]).name]
        content = json.loads(kept[0].read_text())
        bad = [batch for batch in content["micro_batches"] if batch["loss"] == "nan"]
        assert any(7 in batch["documents"] and POISON in batch["input_ids"][0] for batch in bad)
        assert f"left out, {said.index(event) + 1} of at most 10" in event["text"]


@pytest.mark.parametrize(("name", "words"), [("budget", "max_skipped_steps=1 were"), ("end", "non_finite=end")])
def test_beyond_the_budget_the_run_ends_on_all_ranks(
    name: str, words: str, runs: tuple[dict[str, RunFolder], list[Any]]
) -> None:
    made, endings = runs
    place = list(made).index(name)
    assert endings[0][place] == endings[1][place]
    found = outcome(made[name])
    assert found.state is State.failed
    assert found.failure is not None
    assert found.failure.cause is Cause.nan
    assert words in found.reason
    steps = left_out(made["zero2-bf16"])
    assert f"at step {steps[1 if name == 'budget' else 0]}," in found.reason


def test_what_was_left_out_is_known_after_a_resume(runs: tuple[dict[str, RunFolder], Any], tmp_path: Path) -> None:
    run = runs[0]["zero3-fp32"]
    first = left_out(run)[0]
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path, symlinks=True)
    saved = [step for step in range(1, STEPS + 1) if copy.checkpoint(step).is_dir()]
    assert first not in saved  # what changed nothing is not saved
    cut = next(step for step in saved if step > first)
    for step in saved:
        if step > cut:
            shutil.rmtree(copy.checkpoint(step))
    copy.outcome.unlink()
    launch_each(train_runs, 2, [([copy], 1)])
    again = [event["text"] for event in events(copy, "warning") if event["attempt"] == 1]
    # The rehearsal meets the same document, and leaves nothing of it to the first step.
    assert len(again) == len(left_out(copy)) - 3 == len(left_out(run)) - 1
    assert [text.rpartition(", ")[2] for text in again] == ["2 of at most 10", "3 of at most 10"]


def test_a_loss_that_jumps_is_warned_of_or_ends_the_run(tmp_path: Path) -> None:
    """One long document of rare words among many alike: its loss stands out once the others are known by heart."""
    lengths = [12] * 64
    folder = tmp_path / "data"
    split = write_documents(folder, lengths, vocabulary=90, alike=True, poison={40: 94})
    model = write_model(tmp_path / "model", "llama")
    made = []
    for policy in (OnSpike.warn, OnSpike.end):
        config = configuration(1, 1, "exact", 60)
        config.train.global_batch_size, config.train.logging_steps = 1, 1
        config.optim.learning_rate, config.optim.weight_decay = 1e-2, 0.0
        config.health.spike = policy
        made.append(write_run(tmp_path / policy.value, config, model, {"train": split}))
    launch_each(train_runs, 1, [(made,)])
    warned, ended = made
    (said,) = [event for event in events(warned, "warning") if event.get("about") == "spike"]
    content = json.loads(next((warned.attempt(0).folder / "suspects").iterdir()).read_text())
    assert content["micro_batches"][0]["documents"] == [40]
    assert outcome(warned).state is State.done
    found = outcome(ended)
    assert (found.state, found.failure and found.failure.cause) == (State.failed, Cause.nan)
    assert f"at step {said['step']}," in found.reason
