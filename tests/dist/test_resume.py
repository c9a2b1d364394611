"""What must not change a single bit of a run: stopping and going on, and the rehearsal."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import RunFolder
from conf.outcome import Cause, State
from conf.schema import Offload, RunConfig, Scheduler
from tests.dist.harness import join_world, launch_each
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model

pytestmark = pytest.mark.dist

STEPS = 5
RANKS = 2
Data = tuple[Path, dict[str, Any]]


def settings(stage: int, precision: str, offload: bool = False) -> RunConfig:
    config = configuration(stage, 2, "exact", STEPS, precision)
    config.checkpoint.save_steps = 1
    config.checkpoint.save_total_limit = STEPS
    if offload:
        config.parallel.offload_optimizer = Offload.cpu
    return config


RUNS = {
    "zero0-fp32": settings(0, "fp32"),
    "zero1-fp32": settings(1, "fp32"),
    "zero2-fp32": settings(2, "fp32"),
    "zero3-fp32": settings(3, "fp32"),
    "zero1-bf16": settings(1, "bf16"),
    "zero2-bf16-offload": settings(2, "bf16", offload=True),
    "zero3-bf16-offload": settings(3, "bf16", offload=True),
}
CUTS = {name: [1, STEPS - 1] if "3" in name else [2] for name in RUNS}
"""Steps after which a copy of the run goes on in new ranks."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A model with dropout, so that random state counts."""
    folder = tmp_path_factory.mktemp("data")
    lengths = np.random.default_rng(1).integers(4, 32, 19).tolist()
    splits = {
        "train": write_documents(folder / "train", lengths),
        "validation": write_documents(folder / "validation", lengths * 4, seed=1),
    }
    return write_model(folder / "model", "llama", attention_dropout=0.1), splits


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Runs that nothing disturbed, and one without its rehearsal."""
    folder = tmp_path_factory.mktemp("whole")
    unrehearsed = settings(3, "fp32")
    unrehearsed.train.rehearsal = False
    made = {name: write_run(folder / name, config, *data) for name, config in RUNS.items()}
    made["unrehearsed"] = write_run(folder / "unrehearsed", unrehearsed, *data)
    launch_each(train_runs, RANKS, [(list(made.values()),)])
    return made


@pytest.fixture(scope="module")
def resumed(whole: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], RunFolder]:
    """Copies of the runs in which nothing after a step had happened, gone on with in new ranks."""
    folder = tmp_path_factory.mktemp("resumed")
    copies = {}
    for name, cuts in CUTS.items():
        for cut in cuts:
            copy = RunFolder(folder / f"{name}-{cut}")
            shutil.copytree(whole[name].path, copy.path, symlinks=True)
            for step in range(cut + 1, STEPS + 1):
                shutil.rmtree(copy.checkpoint(step))
            copy.outcome.unlink()
            copies[name, cut] = copy
    launch_each(train_runs, RANKS, [(list(copies.values()), 1)])
    return copies


def tensors(run: RunFolder, step: int) -> dict[str, Any]:
    """Every tensor of a checkpoint, by file and place."""
    import torch

    found = {}
    for path in sorted((run.checkpoint(step) / "states").rglob("*.pt")):
        content = torch.load(path, map_location="cpu", weights_only=False)
        found |= {f"{path.name}{place}": tensor for place, tensor in walk(content)}
    return found


def walk(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    import torch

    if torch.is_tensor(content):
        yield place, content
    elif isinstance(content, dict):
        for name, part in content.items():
            yield from walk(part, f"{place}/{name}")
    elif isinstance(content, list | tuple):
        for index, part in enumerate(content):
            yield from walk(part, f"{place}/{index}")


def assert_equal_bits(run: RunFolder, other: RunFolder, step: int = STEPS) -> None:
    found, expected = tensors(run, step), tensors(other, step)
    assert len(expected) > 4
    assert found.keys() == expected.keys()
    assert [name for name in expected if bits(found[name]) != bits(expected[name])] == []


def bits(tensor: Any) -> tuple[Any, bytes]:
    """All of a tensor; two with NaN in the same places are equal."""
    import torch

    return tensor.shape, tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def losses(run: RunFolder, attempt: int) -> dict[int, tuple[float, float]]:
    lines = [line for line in metrics(run) if "train/loss" in line and line["attempt"] == attempt]
    return {line["step"]: (line["train/loss"], line["train/grad_norm"]) for line in lines}


@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name, cuts in CUTS.items() for cut in cuts])
def test_going_on_is_bit_equal(
    name: str, cut: int, whole: dict[str, RunFolder], resumed: dict[tuple[str, int], RunFolder]
) -> None:
    run = resumed[name, cut]
    undisturbed = losses(whole[name], 0)
    assert losses(run, 1) == {step: undisturbed[step] for step in range(cut + 1, STEPS + 1)}
    assert_equal_bits(run, whole[name])
    assert (outcome(run).state, outcome(run).step, outcome(run).attempt) == (State.done, STEPS, 1)


def test_the_rehearsal_changes_nothing(whole: dict[str, RunFolder]) -> None:
    rehearsed, unrehearsed = whole["zero3-fp32"], whole["unrehearsed"]
    assert len(events(rehearsed, "rehearsal")) == 1
    assert events(unrehearsed, "rehearsal") == []
    assert losses(rehearsed, 0) == losses(unrehearsed, 0)
    assert_equal_bits(rehearsed, unrehearsed)


def train_and_stop(run: RunFolder, after_step: int) -> Any:
    """Train; once metrics.jsonl has `after_step`, STOP appears. Returns the ending on this rank."""
    from conf.record import read_plan
    from train.rank import train_run

    world = join_world()

    def ask() -> None:
        while not run.metrics.exists() or f'"step":{after_step},' not in run.metrics.read_text():
            time.sleep(0.005)
        run.stop.write_text("time_limit\n")

    if world.first:
        threading.Thread(target=ask, daemon=True).start()
    return train_run(read_plan(run.run_json), run, 0, world)


def test_all_ranks_stop_at_one_step_and_go_on_bit_equal(data: Data, tmp_path: Path) -> None:
    config = settings(2, "fp32")
    config.train.max_steps = 400
    config.checkpoint.save_steps = 0
    # So that a run that is shortened below has the same learning rates.
    config.schedule.lr_scheduler_type = Scheduler.constant
    run = write_run(tmp_path / "stopped", config, *data)
    (endings,) = launch_each(train_and_stop, RANKS, [(run, 3)])
    step = endings[0].step
    assert 3 <= step < 400
    assert all(ending == endings[0] for ending in endings)
    assert endings[0].state is State.time_limit
    assert metrics(run)[-1]["step"] == step
    assert outcome(run).checkpoint == str(run.checkpoint(step))

    run.stop.unlink()
    further = RunFolder(tmp_path / "further")
    shutil.copytree(run.path, further.path, symlinks=True)
    unbroken = write_run(tmp_path / "unbroken", config, *data)
    for each in (further, unbroken):
        shorten(each, step + 3)
    launch_each(train_runs, RANKS, [([further, unbroken], 1)])
    undisturbed = losses(unbroken, 1)
    assert losses(run, 0) | losses(further, 1) == undisturbed
    assert sorted(losses(further, 1)) == [step + 1, step + 2, step + 3]
    assert_equal_bits(further, unbroken, step + 3)
    assert outcome(further).state is State.done


def shorten(run: RunFolder, steps: int) -> None:
    from conf.record import encode_plan, read_plan

    plan = read_plan(run.run_json)
    plan.config.train.max_steps = steps
    run.run_json.write_text(encode_plan(replace(plan)))


def stop_before_and_within(before: RunFolder, evaluating: RunFolder) -> Any:
    """One run whose STOP is there already, one that gets it while it evaluates for the first time."""
    from conf.record import read_plan
    from train.rank import train_run

    world = join_world()
    first = train_run(read_plan(before.run_json), before, 0, world)

    def ask() -> None:
        while not evaluating.events.exists() or '"phase":"evaluate"' not in evaluating.events.read_text():
            time.sleep(0.002)
        evaluating.stop.write_text("stopped\n")

    if world.first:
        threading.Thread(target=ask, daemon=True).start()
    return first, train_run(read_plan(evaluating.run_json), evaluating, 0, world)


def test_a_stop_is_seen_before_the_first_step_and_between_evaluation_batches(data: Data, tmp_path: Path) -> None:
    model, splits = data
    many = write_documents(tmp_path / "many", [20] * 3000)
    config = settings(1, "fp32")
    config.train.per_device_eval_batch_size = 1
    before = write_run(tmp_path / "before", config, model, splits)
    before.stop.write_text("stopped\n")
    evaluating = write_run(tmp_path / "evaluating", config, model, {**splits, "validation": many})
    (results,) = launch_each(stop_before_and_within, RANKS, [(before, evaluating)])
    for run, ending in ((before, results[0][0]), (evaluating, results[0][1])):
        assert ending.state is State.stopped
        assert ending.step == 0
        assert not run.metrics.exists()
        assert not run.checkpoints.exists()
    assert not before.outcome.exists()  # it never began to train: `train.node.decide` says how it stands
    assert outcome(evaluating).step == 0
    assert results[0] == results[1]


def test_a_loss_that_is_no_number_ends_the_run(data: Data, tmp_path: Path) -> None:
    config = settings(1, "fp32")
    config.optim.learning_rate = 1e30
    config.optim.max_grad_norm = 0.0
    config.schedule.warmup_steps = 0
    run = write_run(tmp_path / "run", config, *data)
    ((first, second),) = launch_each(train_runs, RANKS, [([run],)])
    assert first == second
    found = outcome(run)
    assert found.state is State.failed
    assert found.failure is not None
    assert found.failure.cause is Cause.nan
    assert "the steps 2, 3, 4: the weights are broken" in found.reason
    assert run.checkpoint(found.step).is_dir() or found.step == 0
