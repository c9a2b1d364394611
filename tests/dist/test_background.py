"""Saves beside the training with real ranks and writers: the same files, published when all have them, or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import encode_plan, read_plan
from tests.dist.harness import join_world, launch_each, launch_to_fail
from tests.dist.runs import configuration, events, outcome, train_runs, write_documents, write_run
from tests.dist.small_models import open_engine, train_steps, write_model
from train.checkpoint import checkpoint
from train.checkpoint.arena import NoRoomError
from train.checkpoint.background import Background
from train.checkpoint.jobs import Retention

pytestmark = pytest.mark.dist

STAGES = [(0, False), (1, False), (2, True), (3, False), (3, True)]
STAGE_IDS = [f"zero{stage}-{'bf16' if bf16 else 'fp32'}" for stage, bf16 in STAGES]
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), "llama", tied=True, attention_dropout=0.1)


def writer_of(background: Background) -> int:
    """The process that writes for this rank, once it has begun to serve."""
    background.start_writer()
    pid = background.writer_pid
    assert pid is not None
    while Path(f"/proc/{pid}/comm").read_text() != "checkpoints\n":
        time.sleep(0.01)
    return pid


def hashes(folder: RunFolder, step: int) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 by file of a checkpoint."""
    files = json.loads(folder.manifest(step).read_bytes())["files"]
    return {file["name"]: (file["size"], file["sha256"]) for file in files}


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.checkpoints.iterdir())


def save_both_ways(model: Path, pairs: list[tuple[RunFolder, RunFolder]]) -> None:
    """The same states saved at once and beside the training, which changes them meanwhile."""
    world = join_world()
    for (at_once, beside), (stage, bf16) in zip(pairs, STAGES, strict=True):
        engine = open_engine(model, stage, bf16)
        background = Background(world, beside)
        for step in (1, 2):  # the second time into memory that is there, beside which training has prepared more
            train_steps(engine, step - 1, step)
            background.prepare(engine)
            assert checkpoint.save(engine, world, at_once, step, {"step": step}).error is None
            assert background.begin(engine, step, {"step": step}) is None
            train_steps(engine, step, step + 1)
            saved = background.wait()
            assert saved is not None
            assert (saved.step, saved.error) == (step, None)
            assert 0.0 < saved.stall <= saved.seconds
            assert saved.bytes == sum(size for size, _ in hashes(beside, step).values())
        background.close()


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_files_are_those_of_a_save_at_once(model: Path, tmp_path: Path, ranks: int) -> None:
    pairs = [(RunFolder(tmp_path / f"{name}-at-once"), RunFolder(tmp_path / f"{name}-beside")) for name in STAGE_IDS]
    for folder in (folder for pair in pairs for folder in pair):
        folder.path.mkdir()
    launch_each(save_both_ways, ranks, [(model, pairs)])
    for at_once, beside in pairs:
        assert names(at_once) == names(beside) == ["step-00000001", "step-00000002"]
        for step in (1, 2):
            assert len(hashes(beside, step)) >= 1 + ranks
            assert hashes(beside, step) == hashes(at_once, step)


def while_one_waits(model: Path, folder: RunFolder) -> dict[str, Any]:
    """A save whose writer on rank 1 is held up: looks go on, nothing is published, nothing is removed."""
    world = join_world()
    engine = open_engine(model, 3)
    background = Background(world, folder)
    train_steps(engine, 0, 1)
    assert checkpoint.save(engine, world, folder, 1, {}).error is None
    background.prepare(engine)
    if world.rank == 1:
        os.kill(writer_of(background), signal.SIGSTOP)
    assert background.begin(engine, 2, {}, Retention(keep=1)) is None
    world.gather(None)
    seen = []
    for step in range(2, 8):
        train_steps(engine, step, step + 1)
        seen.append(background.look())
    during = names(folder)
    world.gather(None)
    if world.rank == 1:
        os.kill(writer_of(background), signal.SIGCONT)
    saved = background.wait()
    background.close()
    return {"seen": seen, "during": during, "saved": saved, "after": names(folder)}


def test_nothing_is_published_or_removed_before_all_have_written(model: Path, tmp_path: Path) -> None:
    (ranks,) = launch_each(while_one_waits, 2, [(model, RunFolder(tmp_path))])
    for rank in ranks:
        assert rank["seen"] == [None] * 6
        assert rank["during"] == [".step-00000002.partial", "step-00000001"]
        assert rank["saved"].error is None
        assert rank["after"] == ["step-00000002"]


def lose_writers(model: Path, folder: RunFolder) -> dict[str, Any]:
    """A writer that is killed, one whose disk is full, then a good one."""
    world = join_world()
    engine = open_engine(model, 2)
    background = Background(world, folder)
    errors, seconds = [], []
    for step, harm in enumerate(["none", "killed", "full", "none"], 1):
        train_steps(engine, step - 1, step)
        background.prepare(engine)
        if world.rank == 1 and harm == "killed":
            os.kill(writer_of(background), signal.SIGSTOP)
        if world.rank == 1 and harm == "full":
            resource.prlimit(writer_of(background), resource.RLIMIT_FSIZE, (100, 100))
        if world.rank == 1 and harm == "none" and step > 1:
            end(writer_of(background))  # between two saves: nobody needs to know
        assert background.begin(engine, step, {}) is None
        if world.rank == 1 and harm == "killed":
            os.kill(writer_of(background), signal.SIGKILL)
        begun = time.monotonic()
        saved = background.wait()
        assert saved is not None
        errors.append(saved.error)
        seconds.append(time.monotonic() - begun)
    background.close()
    return {"errors": errors, "seconds": seconds, "names": names(folder)}


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)


def test_a_writer_that_is_lost_publishes_nothing_and_is_replaced(model: Path, tmp_path: Path) -> None:
    (ranks,) = launch_each(lose_writers, 2, [(model, RunFolder(tmp_path))])
    for rank in ranks:
        first, killed, full, last = rank["errors"]
        assert (first, last) == (None, None)
        assert killed == "the process that writes checkpoints killed by SIGKILL"
        assert full == "File too large"
        assert max(rank["seconds"]) < LIMIT_S
        assert rank["names"] == ["step-00000001", "step-00000004"]


def die_in_a_save(model: Path, folder: RunFolder, pids: Path) -> None:
    world = join_world()
    engine = open_engine(model, 1)
    background = Background(world, folder)
    train_steps(engine, 0, 1)
    background.prepare(engine)
    (pids / str(world.rank)).write_text(str(background.writer_pid))
    os.kill(writer_of(background), signal.SIGSTOP)
    assert background.begin(engine, 1, {}) is None
    world.gather(None)
    os.kill(os.getpid(), signal.SIGKILL)


def test_writers_die_with_their_ranks(model: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    launch_to_fail(die_in_a_save, 2, [(model, RunFolder(tmp_path), pids)])
    written = [int(path.read_text()) for path in pids.iterdir()]
    assert len(written) == 2
    deadline = time.monotonic() + LIMIT_S
    while any(is_alive(pid) for pid in written):
        assert time.monotonic() < deadline, "a writer outlives its rank"
        time.sleep(0.05)
    assert names(RunFolder(tmp_path)) == [".step-00000001.partial"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def without_memory(model: Path, folder: RunFolder) -> str:
    world = join_world()
    engine = open_engine(model, 3)
    background = Background(world, folder, ranks_on_node=10**9 if world.rank == 1 else 1)
    train_steps(engine, 0, 1)
    try:
        background.begin(engine, 1, {})
    except NoRoomError as error:
        return str(error.strerror)
    return ""


def test_all_ranks_hear_that_one_has_no_memory(model: Path, tmp_path: Path) -> None:
    (ranks,) = launch_each(without_memory, 2, [(model, RunFolder(tmp_path))])
    assert ranks[0] == ranks[1]
    assert "does not fit" in ranks[0]


def train_and_stop(run: RunFolder) -> Any:
    """A run that saves after each step; STOP comes in its third save."""
    import threading

    from train.rank import train_run

    world = join_world()
    if world.first:

        def ask() -> None:
            partial = run.checkpoint(3).with_name(".step-00000003.partial")
            while not partial.exists():
                time.sleep(0.001)
            run.stop.write_text("stopped\n")

        threading.Thread(target=ask, daemon=True).start()
    return train_run(read_plan(run.run_json), run, 0, world)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"train": write_documents(tmp_path_factory.mktemp("data") / "train", [20] * 64)}


def test_a_stop_in_a_save_leaves_one_checkpoint_of_its_step(
    model: Path, documents: dict[str, Any], tmp_path: Path
) -> None:
    config = configuration(2, 2, "exact", 400)
    config.checkpoint.save_steps = 1
    run = write_run(tmp_path / "run", config, model, documents)
    (endings,) = launch_each(train_and_stop, 2, [(run,)])
    step = endings[0].step
    assert endings[0] == endings[1]
    assert (endings[0].state, outcome(run).step) == (State.stopped, step)
    assert 3 <= step < 400
    said = [event["step"] for event in events(run, "checkpoint")]
    assert said == list(range(1, step + 1))
    assert names(run) == [f"step-{step - 1:08d}", f"step-{step:08d}"]


def test_without_memory_a_run_saves_at_once_and_says_so(
    model: Path, documents: dict[str, Any], tmp_path: Path
) -> None:
    config = configuration(2, 2, "exact", 4)
    config.checkpoint.save_steps = 1
    off = configuration(2, 2, "exact", 4)
    off.checkpoint.save_steps, off.checkpoint.async_save = 1, False
    run = write_run(tmp_path / "crowded", config, model, documents)
    plan = read_plan(run.run_json)
    run.run_json.write_text(encode_plan(replace(plan, topology=replace(plan.topology, ranks_per_node=10**9))))
    other = write_run(tmp_path / "off", off, model, documents)
    launch_each(train_runs, 2, [([run, other],)])
    (warning,) = events(run, "warning")
    assert "does not fit" in warning["text"]
    assert events(other, "warning") == []
    for each in (run, other):
        assert [event["step"] for event in events(each, "checkpoint")] == [1, 2, 3, 4]
        assert hashes(each, 4)


def train_without_writer(run: RunFolder) -> Any:
    """A run whose ranks can start no process."""
    import sys

    from train.rank import train_run

    world = join_world()
    sys.executable = str(run.path / "no-such-python")
    return train_run(read_plan(run.run_json), run, 0, world)


def test_where_no_process_can_be_made_every_second_save_is_written_directly(
    model: Path, documents: dict[str, Any], tmp_path: Path
) -> None:
    config = configuration(2, 2, "exact", 8)
    config.checkpoint.save_steps = 1
    run = write_run(tmp_path / "run", config, model, documents)
    launch_each(train_without_writer, 2, [(run,)])
    assert [event["step"] for event in events(run, "checkpoint")] == [3, 5, 7, 8]
    said = [event["text"] for event in events(run, "warning")]
    assert len(said) == 4
    assert all("the process that writes checkpoints cannot be started" in text for text in said)
    assert outcome(run).step == 8
