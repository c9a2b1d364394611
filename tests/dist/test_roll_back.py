"""Back to a checkpoint when the numbers stay wrong: all ranks, every stage, saves in flight, exact over a resume."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.outcome import Cause, State
from conf.schema import NonFinite, Offload, OnSpike, RunConfig
from launcher.runs.incidents import incident_lines
from tests.dist.harness import launch_each
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model
from tests.dist.test_numbers import POISON, poisoned_model
from tests.dist.test_resume import assert_equal_bits, bits, tensors
from train.data.order import documents_of_step, mix_of

pytestmark = pytest.mark.dist

STEPS, BATCH, SEED = 11, 8, 42
TROUBLE = (6, 7, 8)
SAVED_BEFORE = 4
"""The last checkpoint before the trouble; step 5 is lost with it."""


def settings(stage: int, precision: str, beside: bool = True, offload: bool = False) -> RunConfig:
    config = configuration(stage, 2, "exact", STEPS, precision)
    config.train.logging_steps, config.train.seed = 1, SEED
    config.checkpoint.save_steps, config.checkpoint.save_total_limit = 2, 2
    config.checkpoint.async_save = beside
    config.health.non_finite = NonFinite.roll_back
    if offload:
        config.parallel.offload_optimizer = Offload.cpu
    return config


RUNS = {
    "zero0-fp32": settings(0, "fp32"),
    "zero1-fp32": settings(1, "fp32"),
    "zero2-bf16": settings(2, "bf16"),
    "zero2-bf16-offload-direct": settings(2, "bf16", beside=False, offload=True),
    "zero3-fp32": settings(3, "fp32"),
    "zero3-bf16-direct": settings(3, "bf16", beside=False),
}


def write_poisoned(folder: Path, steps: tuple[int, ...]) -> dict[str, Any]:
    """Documents for `STEPS` steps, of which each of `steps` has one with the token whose embedding is NaN."""
    count = BATCH * (STEPS + 4)
    mix = mix_of([count], [])
    poison = {int(documents_of_step(mix, BATCH, SEED, step)[0]): POISON for step in steps}
    lengths = np.random.default_rng(1).integers(4, 32, count).tolist()
    return {"train": write_documents(folder, lengths, vocabulary=90, poison=poison)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poisoned_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def runs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    data = write_poisoned(folder / "data", TROUBLE)
    made = {name: write_run(folder / name, config, model, data) for name, config in RUNS.items()}
    launch_each(train_runs, 2, [(list(made.values()),)])
    return made


def rolled_back(run: RunFolder) -> list[tuple[int, int]]:
    return [(line["step"], line["to"]) for line in events(run, "warning") if line.get("about") == "roll_back"]


def trained(run: RunFolder, attempt: int = 0) -> list[int]:
    return [line["step"] for line in metrics(run) if "train/loss" in line and line["attempt"] == attempt]


@pytest.mark.parametrize("name", RUNS)
def test_all_ranks_go_back_and_on_with_later_documents(name: str, runs: dict[str, RunFolder]) -> None:
    run, last = runs[name], TROUBLE[-1]
    assert (outcome(run).state, outcome(run).step) == (State.done, STEPS)
    assert rolled_back(run) == [(last, SAVED_BEFORE)]
    assert trained(run) == [step for step in range(1, STEPS + 1) if step not in TROUBLE]
    assert [line["step"] for line in metrics(run) if line.get("health/roll_backs") == 1] == [last]
    (text,) = [line["text"] for line in events(run, "warning") if line.get("about") == "roll_back"]
    assert f"Rolled back to the checkpoint of step {SAVED_BEFORE}, 1 of at most 2" in text
    assert f"goes on with those of step {last + 1}" in text
    assert any(line.startswith("1 roll back; the last: ") for line in incident_lines(run))
    # Nothing is removed until a loss was sound again; then as many stay as the run keeps.
    kept = sorted(int(path.name[5:]) for path in run.checkpoints.iterdir() if path.name[5:].isdigit())
    assert kept == [STEPS - 1, STEPS]


def test_all_stages_have_one_curve_after_it(runs: dict[str, RunFolder]) -> None:
    curves = [
        [line["train/loss"] for line in metrics(runs[name]) if "train/loss" in line]
        for name in ("zero0-fp32", "zero1-fp32", "zero3-fp32")
    ]
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)
    assert curves[2] == pytest.approx(curves[0], rel=1e-6)


def test_what_it_goes_on_from_is_bit_equal_and_known_after_a_resume(model: Path, tmp_path: Path) -> None:
    """The checkpoint under the last step of the trouble has the weights of the one before it, and a resume takes it."""
    last, config = TROUBLE[-1], settings(3, "fp32")
    config.checkpoint.save_total_limit = STEPS
    run = write_run(tmp_path / "run", config, model, write_poisoned(tmp_path / "data", TROUBLE))
    launch_each(train_runs, 2, [([run],)])
    before, after = tensors(run, SAVED_BEFORE), tensors(run, last)
    states = [name for name in before if not name.startswith("random")]
    assert len(states) > 4
    assert [name for name in states if bits(before[name]) != bits(after[name])] == []

    killed = RunFolder(tmp_path / "killed")  # as if right after it went back
    shutil.copytree(run.path, killed.path, symlinks=True)
    for step in range(last + 1, STEPS + 1):
        shutil.rmtree(killed.checkpoint(step), ignore_errors=True)
    killed.outcome.unlink()
    launch_each(train_runs, 2, [([killed], 1)])
    assert rolled_back(killed) == [(last, SAVED_BEFORE)]
    assert trained(killed, attempt=1) == list(range(last + 1, STEPS + 1))
    assert_equal_bits(killed, run, STEPS)


def test_trouble_that_comes_back_at_once_goes_back_further_and_then_ends(model: Path, tmp_path: Path) -> None:
    """Nine bad steps: back from 8 to 4, from 11 to 2, and not a third time."""
    config = settings(1, "fp32")
    config.checkpoint.save_total_limit = 3
    data = write_poisoned(tmp_path / "data", tuple(range(6, STEPS + 4)))
    config.train.max_steps = STEPS + 4
    run = write_run(tmp_path / "run", config, model, data)
    ((first, second),) = launch_each(train_runs, 2, [([run],)])
    assert first == second
    assert rolled_back(run) == [(8, 4), (11, 2)]
    found = outcome(run)
    assert found.state is State.failed
    assert found.failure is not None
    assert found.failure.cause is Cause.nan
    assert "the steps 12, 13, 14: the weights are broken; health.max_roll_backs=2 were made before" in found.reason


def test_without_a_checkpoint_from_before_the_run_ends(model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", settings(2, "bf16"), model, write_poisoned(tmp_path / "data", (1, 2, 3)))
    launch_each(train_runs, 2, [([run],)])
    assert outcome(run).state is State.failed
    assert "the weights are broken; there is no checkpoint from before it to go back to" in outcome(run).reason


def test_a_loss_that_jumps_and_stays_takes_the_run_back(tmp_path: Path) -> None:
    """Three steps of rare words among many alike: what was saved meanwhile is not gone back to."""
    steps, high, seed = 46, (40, 41, 42), SEED
    mix = mix_of([64], [])
    poison = {int(documents_of_step(mix, 1, seed, step)[0]): 94 - number for number, step in enumerate(high)}
    data = {"train": write_documents(tmp_path / "data", [12] * 64, vocabulary=90, alike=True, poison=poison)}
    config = configuration(1, 1, "exact", steps)
    config.train.global_batch_size, config.train.logging_steps, config.train.seed = 1, 1, seed
    config.optim.learning_rate, config.optim.weight_decay = 1e-2, 0.0
    config.checkpoint.save_steps, config.checkpoint.save_total_limit = 3, 1
    config.health.spike = OnSpike.roll_back
    run = write_run(tmp_path / "run", config, write_model(tmp_path / "model", "llama"), data)
    launch_each(train_runs, 1, [([run],)])
    assert outcome(run).state is State.done
    assert rolled_back(run) == [(42, 39)]
    losses = {line["step"]: line["train/loss"] for line in metrics(run) if "train/loss" in line}
    assert sorted(losses) == list(range(1, steps + 1))
    assert min(losses[step] for step in high) > 10 * losses[39]
    assert losses[43] == pytest.approx(losses[39], rel=0.5)
    assert all(math.isfinite(loss) for loss in losses.values())
