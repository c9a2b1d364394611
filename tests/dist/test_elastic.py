"""Going on with another number of ranks: one curve, whoever saved the states."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.layout import MANIFEST, RunFolder
from conf.outcome import State
from conf.schema import Offload, Quantization, RunConfig
from tests.dist.harness import launch_each, launch_to_fail
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import write_model
from train.checkpoint.stock import list_checkpoints

pytestmark = pytest.mark.dist

STEPS = 6
Data = tuple[Path, dict[str, Any]]


LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}


def settings(stage: int, precision: str, offload: bool = False, quantization: str | None = None) -> RunConfig:
    """A run that saves after each two steps; with a `quantization` it trains LoRA."""
    config = configuration(stage, 2, "exact", STEPS, precision)
    config.checkpoint.save_steps = 2
    config.checkpoint.save_total_limit = STEPS
    if offload:
        config.parallel.offload_optimizer = Offload.cpu
    if quantization is not None:
        config.method.name, config.method.peft = "adapter", LORA
        config.method.quantization = Quantization(quantization)
    if stage == 3:
        # So that all of a small model is sharded.
        config.parallel.deepspeed = {"zero_optimization": {"stage3_param_persistence_threshold": 10}}
    return config


RUNS = {
    "zero0-fp32": settings(0, "fp32"),
    "zero1-fp32": settings(1, "fp32"),
    "zero2-fp32": settings(2, "fp32"),
    "zero3-fp32": settings(3, "fp32"),
    "zero2-bf16-offload": settings(2, "bf16", offload=True),
    "zero3-bf16-offload": settings(3, "bf16", offload=True),
    "lora-zero2-fp32": settings(2, "fp32", quantization="none"),
    "lora-zero3-fp32": settings(3, "fp32", quantization="none"),
    "qlora-zero3-bf16": settings(3, "bf16", quantization="nf4"),
}
RANKS = (2, 3, 1)
"""The first run to the end at 2 ranks; after step 2 a copy goes on at 3, and after step 4 a copy of that one at 1."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    lengths = np.random.default_rng(1).integers(4, 32, 19).tolist()
    return write_model(folder / "model", "llama", tied=True), {"train": write_documents(folder / "train", lengths)}


@pytest.fixture(scope="module")
def chains(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[RunFolder]]:
    """Of each run: undisturbed, gone on with at 3 ranks, gone on with at 1."""
    folder = tmp_path_factory.mktemp("chains")
    made = {name: [write_run(folder / f"{name}-0", config, *data)] for name, config in RUNS.items()}
    launch_each(train_runs, RANKS[0], [([chain[0] for chain in made.values()],)])
    for link, ranks in enumerate(RANKS[1:], 1):
        for name, chain in made.items():
            chain.append(cut(chain[-1], folder / f"{name}-{link}", 2 * link))
        launch_each(train_runs, ranks, [([chain[-1] for chain in made.values()], link)])
    return made


def cut(run: RunFolder, folder: Path, step: int) -> RunFolder:
    """A copy of a run in which nothing after a step had happened."""
    copy = RunFolder(folder)
    shutil.copytree(run.path, folder, symlinks=True)
    for path in copy.checkpoints.glob("step-*"):
        if path.name > copy.checkpoint(step).name:
            shutil.rmtree(path)
    copy.outcome.unlink()
    return copy


def curve(run: RunFolder, attempt: int) -> dict[int, tuple[float, float]]:
    lines = [line for line in metrics(run) if "train/loss" in line and line["attempt"] == attempt]
    return {line["step"]: (line["train/loss"], line["train/grad_norm"]) for line in lines}


@pytest.mark.parametrize("name", RUNS)
def test_the_curve_is_one_over_numbers_of_ranks(name: str, chains: dict[str, list[RunFolder]]) -> None:
    undisturbed, *gone_on = chains[name]
    expected = curve(undisturbed, 0)
    loss_rel, norm_rel = (1e-3, 1e-2) if "bf16" in name else (1e-6, 1e-6)
    for attempt, run in enumerate(gone_on, 1):
        found = curve(run, attempt)
        assert sorted(found) == list(range(2 * attempt + 1, STEPS + 1))
        for step, (loss, norm) in found.items():
            assert loss == pytest.approx(expected[step][0], rel=loss_rel)
            assert norm == pytest.approx(expected[step][1], rel=norm_rel)
        assert (outcome(run).state, outcome(run).step) == (State.done, STEPS)


@pytest.mark.parametrize("name", RUNS)
def test_a_conversion_is_said_and_goes_with_the_next_checkpoint(name: str, chains: dict[str, list[RunFolder]]) -> None:
    last = chains[name][-1]
    said = [event["text"].partition(":")[0] for event in events(last, "converted")]
    expected = [] if "zero0" in name else ["step 2 was saved by 2 ranks", "step 4 was saved by 3 ranks"]
    assert said == expected
    steps = sorted(path.name for path in last.checkpoints.iterdir())
    assert steps == [f"step-{step:08d}" for step in range(2, STEPS + 1, 2)]


@pytest.fixture
def saved(chains: dict[str, list[RunFolder]], tmp_path: Path) -> RunFolder:
    """A run of ZeRO-3 that 2 ranks saved at step 2."""
    return cut(chains["zero3-fp32"][0], tmp_path / "run", 2)


def prepare_only(run: RunFolder, attempt: int) -> float:
    """In a rank: everything up to the first step; the sum of the weights that this rank has then."""
    from conf.record import read_plan
    from tests.dist.harness import join_world
    from train.deadline import Deadline
    from train.metrics.journal import Journal
    from train.rank import prepared
    from train.stop import StopVote

    world = join_world()
    journal = Journal(run, attempt, active=world.first)
    with StopVote(run.stop, world, Deadline(run, attempt, None)) as stop:
        training = prepared(read_plan(run.run_json), run, attempt, world, journal, stop)
    with training.engine.gathered(training.engine.module.parameters()):
        total = sum(float(parameter.double().sum()) for parameter in training.engine.module.parameters())
    return total


def test_a_conversion_is_used_again_where_it_verifies(saved: RunFolder) -> None:
    ((total, _, _),) = launch_each(prepare_only, 3, [(saved, 1)])
    converted = saved.universal(2)
    assert (converted / MANIFEST).is_file()
    assert not list(saved.checkpoints.glob(".*"))
    assert list_checkpoints(saved) == ([2], 0)

    ((other,),) = launch_each(prepare_only, 1, [(saved, 2)])
    damaged = next(converted.rglob("exp_avg.pt"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    ((again,),) = launch_each(prepare_only, 1, [(saved, 3)])
    assert other == pytest.approx(total, rel=1e-12)
    assert again == other
    made, used, remade = (event["seconds"] for event in events(saved, "converted"))
    assert (made > 0, used, remade > 0) == (True, 0, True)


def killed_while_converting(run: RunFolder) -> None:
    """In a rank: rank 0 is killed once pieces of the first state lie there."""
    if os.environ["RANK"] == "0":

        def watch() -> None:
            while not any(run.checkpoints.glob(".*/states/tmp/*/*/fp32.*")):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    prepare_only(run, 1)


def test_half_a_conversion_is_never_used(saved: RunFolder) -> None:
    ((first, *_),) = launch_to_fail(killed_while_converting, 3, [(saved,)])
    assert first.status == -signal.SIGKILL
    assert [path.name for path in saved.checkpoints.glob(".*")] == [".step-00000002.universal.partial"]
    launch_each(prepare_only, 3, [(saved, 2)])
    assert not list(saved.checkpoints.glob(".*"))
    assert len(events(saved, "converted")) == 1


def test_no_room_for_a_conversion_is_said_by_every_rank_and_leaves_nothing(saved: RunFolder) -> None:
    (ranks,) = launch_to_fail(converting_into_little_room, 3, [(saved,)])
    assert all("File too large" in rank.failure for rank in ranks)
    assert not list(saved.checkpoints.glob(".*"))
    assert not saved.universal(2).exists()


def converting_into_little_room(run: RunFolder) -> None:
    """In a rank: no file may grow beyond 4 KiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    prepare_only(run, 1)


def test_another_stage_is_refused(saved: RunFolder) -> None:
    from conf.record import encode_plan, read_plan

    plan = read_plan(saved.run_json)
    for layout in plan.layouts.values():
        layout.deepspeed["zero_optimization"] = {"stage": 2}
    plan.config.parallel.zero_stage = 2
    saved.run_json.write_text(encode_plan(plan))
    (ranks,) = launch_to_fail(prepare_only, 2, [(saved, 1)])
    for rank in ranks:
        assert "step 2 is of ZeRO-3 and this attempt trains with ZeRO-2" in rank.failure
        assert "parallel.zero_stage=3" in rank.failure
