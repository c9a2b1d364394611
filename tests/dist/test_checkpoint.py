"""Checkpoints with real ranks: exact resume, bad ones never used, saves that are killed or find no room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path, PosixPath
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.dist.harness import join_world, launch_each, launch_to_fail
from tests.dist.small_models import open_engine, train_steps, write_model
from train.checkpoint import checkpoint
from train.checkpoint.background import Background
from train.checkpoint.conversion import converted
from train.checkpoint.flight import Saved
from train.checkpoint.manifest import Manifest, entries, write_manifest
from train.checkpoint.stock import list_checkpoints
from train.checkpoint.storage import WrittenFile, hashed_file
from train.distributed import World
from train.metrics.journal import Journal

pytestmark = pytest.mark.dist

STAGES = [(0, False), (1, False), (2, True), (3, False), (3, True)]
STAGE_IDS = [f"zero{stage}-{'bf16' if bf16 else 'fp32'}" for stage, bf16 in STAGES]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), "llama", attention_dropout=0.1)


@pytest.fixture(scope="module")
def stories(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunFolder, list[Any]]]:
    """Runs of six steps saved at steps 2, 4 and 5, each resumed in new ranks."""
    folders = [RunFolder(tmp_path_factory.mktemp(name)) for name in STAGE_IDS]
    calls = [(folder, model, stage, bf16) for folder, (stage, bf16) in zip(folders, STAGES, strict=True)]
    (undisturbed,) = launch_each(train_and_save_each, 2, [(calls,)])
    (resumed,) = launch_each(resume_and_train_each, 2, [(calls,)])
    return {
        name: (folder, [(undisturbed[rank][case], resumed[rank][case]) for rank in range(2)])
        for case, (name, folder) in enumerate(zip(STAGE_IDS, folders, strict=True))
    }


def train_and_save_each(calls: list[tuple[RunFolder, Path, int, bool]]) -> list[tuple[str, list[int], int]]:
    world = join_world()
    return [train_and_save(world, *call) for call in calls]


def resume_and_train_each(calls: list[tuple[RunFolder, Path, int, bool]]) -> list[tuple[str, int, dict[str, Any]]]:
    world = join_world()
    return [resume_and_train(world, *call) for call in calls]


def train_and_save(world: World, folder: RunFolder, model: Path, stage: int, bf16: bool) -> tuple[str, list[int], int]:
    engine = open_engine(model, stage, bf16)
    removed = []
    saved = 0
    for first, last in [(0, 2), (2, 4), (4, 5)]:
        train_steps(engine, first, last)
        result = checkpoint.save(engine, world, folder, last, {"run_id": "story-1a2b3c4d", "attempt": 3, "step": last})
        assert result.error is None
        saved = result.bytes
        removed += checkpoint.prune(folder, world, keep=2)
    assert checkpoint.save(engine, world, folder, 5, {}).bytes == 0
    train_steps(engine, 5, 6)
    return digest(engine), removed, saved


def resume_and_train(
    world: World, folder: RunFolder, model: Path, stage: int, bf16: bool
) -> tuple[str, int, dict[str, Any]]:
    found = checkpoint.newest_valid(folder, world, print)
    assert found is not None
    engine = open_engine(model, stage, bf16)
    state = checkpoint.load(engine, found, world, Journal(folder, 0, active=False))
    train_steps(engine, 5, 6)
    return digest(engine), found.step, state


def digest(engine: Any) -> str:
    """SHA-256 over this rank's part of weights and optimizer states."""
    import torch

    seen = hashlib.sha256()
    for name, parameter in engine.module.named_parameters():
        with engine.gathered([parameter]):
            seen.update(name.encode() + parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    for key, state in enumerate(engine.optimizer.state.values()):
        for name in ("exp_avg", "exp_avg_sq"):
            seen.update(f"{key}{name}".encode() + state[name].detach().contiguous().view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()


@pytest.mark.parametrize("name", STAGE_IDS)
def test_resume_is_bit_equal(stories: dict[str, tuple[RunFolder, list[Any]]], name: str) -> None:
    _, ranks = stories[name]
    for (first, _, _), (second, step, state) in ranks:
        assert step == 5
        assert state == {"run_id": "story-1a2b3c4d", "attempt": 3, "step": 5}
        assert first == second


def test_only_the_newest_are_kept_and_nothing_else_is_left(stories: dict[str, tuple[RunFolder, list[Any]]]) -> None:
    folder, ranks = stories["zero3-fp32"]
    assert [removed for (_, removed, _), _ in ranks] == [[2], []]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step-00000004", "step-00000005"]
    files = [path for path in folder.checkpoint(5).rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert ranks[0][0][2] == sum(path.stat().st_size for path in files)
    assert {path.suffix for path in files} == {".pt"}


# What is wrong with the newest checkpoint, the word that has to be said, and the step that is used instead.
DAMAGE = {
    "bit flipped": "is not what was written",
    "truncated": "bytes instead of",
    "empty": "has 0 bytes",
    "shard missing": "is missing",
    "manifest missing": "there is no manifest.json",
    "manifest cut": "is not a manifest",
    "manifest of another format": "format version 99",
    "manifest points outside": "outside the checkpoint",
}


def damage(folder: RunFolder, kind: str, step: int = 5) -> None:
    path = folder.checkpoint(step)
    # The file of rank 1: rank 0 has to learn of it.
    shard = sorted(path.glob("states/*rank_1_*optim_states.pt"))[0]
    manifest = path / "manifest.json"
    content = bytearray(shard.read_bytes())
    if kind == "bit flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif kind == "truncated":
        shard.write_bytes(content[:-1])
    elif kind == "empty":
        shard.write_bytes(b"")
    elif kind == "shard missing":
        shard.unlink()
    elif kind == "manifest missing":
        manifest.unlink()
    elif kind == "manifest cut":
        manifest.write_bytes(manifest.read_bytes()[:100])
    elif kind == "manifest of another format":
        manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
    elif kind == "manifest points outside":
        manifest.write_text(manifest.read_text().replace('"states/', '"../states/', 1))


def find(world: World, folder: RunFolder) -> tuple[int | str | None, list[str]]:
    """What a start makes of the checkpoints: a step or an error, and what it said."""
    said: list[str] = []
    try:
        found = checkpoint.newest_valid(folder, world, said.append)
    except checkpoint.CheckpointError as error:
        return str(error), said
    return found and found.step, said


def find_each(folders: list[RunFolder]) -> list[tuple[int | str | None, list[str]]]:
    world = join_world()
    return [find(world, folder) for folder in folders]


def test_damage_is_seen_said_and_never_used(stories: dict[str, tuple[RunFolder, list[Any]]], tmp_path: Path) -> None:
    copies = {}
    for kind in [*DAMAGE, "all bad", "none left", "never saved"]:
        copies[kind] = RunFolder(tmp_path / kind.replace(" ", "-"))
        copies[kind].path.mkdir()
        shutil.copytree(stories["zero3-fp32"][0].checkpoints, copies[kind].checkpoints)
    for kind in DAMAGE:
        damage(copies[kind], kind)
    damage(copies["all bad"], "bit flipped", step=4)
    damage(copies["all bad"], "truncated", step=5)
    for step in (4, 5):
        path = copies["none left"].checkpoint(step)
        path.rename(path.with_name(path.name + ".bad"))
    shutil.rmtree(copies["never saved"].checkpoints)
    (copies["bit flipped"].checkpoints / ".step-00000006.partial").mkdir()

    results = dict(
        zip(copies, zip(*launch_each(find_each, 2, [(list(copies.values()),)])[0], strict=True), strict=True)
    )

    for kind, word in DAMAGE.items():
        (step, said), (other, silent) = results[kind]
        assert (step, other) == (4, 4), kind
        assert len(said) == 1, kind
        assert word in said[0], kind
        assert "step-00000005.bad" in said[0], kind
        assert silent == []
        assert sorted(path.name for path in copies[kind].checkpoints.iterdir()) == [
            "step-00000004",
            "step-00000005.bad",
        ]
    for kind in ("all bad", "none left"):
        for error, _ in results[kind]:
            assert isinstance(error, str)
            assert "none of the 2 checkpoints" in error
            assert "step 0 in silence" in error
    assert [step for step, _ in results["never saved"]] == [None, None]


class Unasked(PosixPath):
    """A path that nobody may look for."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        raise AssertionError(f"a rank that is not the first looked for {self}")


def written(folder: RunFolder) -> tuple[Path, Manifest]:
    """A checkpoint of two ranks at step 5, with a file of each."""
    files = []
    (folder.checkpoint(5) / "states").mkdir(parents=True)
    for name in ("states/a.pt", "states/b.pt"):
        with hashed_file(folder.checkpoint(5) / name) as file:
            file.write(name.encode())
        files.append([WrittenFile(name, file.size, file.sha256)])
    manifest = Manifest(5, 2, 3, "demo-1a2b3c4d", "1a2b3c4d", 0, 0.0, "2", "0", {}, entries(files))
    write_manifest(folder.checkpoint(5), manifest)
    return folder.checkpoint(5), manifest


def save_again(path: Path, manifest: Manifest) -> list[Any]:
    """What a save of a step that is saved gives, directly and in the background, and a conversion that is there."""
    world = join_world()
    engine: Any = None
    folder = RunFolder(path if world.first else Unasked(path))
    background = Background(world, folder, 2)
    saved = [checkpoint.save(engine, world, folder, 5, {}), background.begin(engine, 5, {})]
    found = converted(folder.checkpoint(5), folder.universal(5), manifest, world, lambda done, total: None)
    return [*saved, found.manifest]


def test_the_first_rank_alone_looks_for_what_may_not_be_there_yet(tmp_path: Path) -> None:
    """On NFS another node that had looked would not see it for a minute."""
    folder = RunFolder(tmp_path)
    path, manifest = written(folder)
    shutil.copytree(path, folder.universal(5))
    for rank in launch_each(save_again, 2, [(tmp_path, manifest)])[0]:
        assert rank == [Saved(5, 0.0, 0), Saved(5, 0.0, 0), manifest]


def test_an_error_of_a_file_system_puts_no_checkpoint_aside(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path, manifest = written(folder)
    (path / "states/b.pt").unlink()
    (path / "states/b.pt").symlink_to("/proc/self/mem")  # which has no size, and whose first page cannot be read
    write_manifest(path, replace(manifest, files=[manifest.files[0], replace(manifest.files[1], size=0)]))
    _, second = launch_to_fail(find_each, 2, [([folder],)])[0]
    assert "Input/output error" in second.failure
    assert list_checkpoints(folder) == ([5], 0)


def save_and_die(folder: RunFolder, model: Path, limit: int | None, delay_s: float) -> None:
    """Save step 1, then be killed in the save of step 2: at a byte of a file, or after a time."""
    world = join_world()
    engine = open_engine(model, 3)
    train_steps(engine, 0, 1)
    assert checkpoint.save(engine, world, folder, 1, {}).error is None
    if limit is not None:
        # The kernel kills the process at this byte of whatever file it writes.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    else:
        threading.Thread(
            target=lambda: (time.sleep(delay_s), os.kill(os.getpid(), signal.SIGKILL)), daemon=True
        ).start()
    step = 2
    while True:
        checkpoint.save(engine, world, folder, step, {})
        step += 1


def test_a_killed_save_is_never_half_used(model: Path, tmp_path: Path) -> None:
    dice = random.Random(7)
    points: list[tuple[int | None, float]] = [(dice.randrange(0, 60_000), 0.0) for _ in range(3)]
    points += [(None, dice.uniform(0.0, 0.5)) for _ in range(3)]
    folders = [RunFolder(tmp_path / str(number)) for number in range(len(points))]
    for folder in folders:
        folder.path.mkdir()
    died = launch_to_fail(save_and_die, 2, [(f, model, *point) for f, point in zip(folders, points, strict=True)])
    assert all(any(rank.status < 0 for rank in group) for group in died)

    found = list(zip(*launch_each(find_each, 2, [(folders,)])[0], strict=True))

    for folder, point, ((step, said), (other, _)) in zip(folders, points, found, strict=True):
        assert isinstance(step, int), (point, step)
        assert step == other
        assert said == []
        names = [path.name for path in folder.checkpoints.iterdir()]
        assert all(name.startswith("step-") for name in names), names
    assert {step for ((step, _), _) in found[:3]} == {1}


def save_without_room(
    folder: RunFolder, model: Path, ballast: Path | None
) -> tuple[str | None, str | None, str | None]:
    """Save with room, without room on rank 1 (or on the file system), and with room again."""
    world = join_world()
    engine = open_engine(model, 3)
    train_steps(engine, 0, 1)
    before = checkpoint.save(engine, world, folder, 1, {})
    if ballast is None:
        if world.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    elif world.first:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    world.gather(None)
    train_steps(engine, 1, 2)
    without = checkpoint.save(engine, world, folder, 2, {})
    if ballast is None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    elif world.first:
        ballast.unlink()
    world.gather(None)
    train_steps(engine, 2, 3)
    again = checkpoint.save(engine, world, folder, 3, {})
    return before.error, without.error, again.error


def check_no_room(folder: RunFolder, ranks: list[tuple[str | None, str | None, str | None]], words: str) -> None:
    for before, without, again in ranks:
        assert before is None
        assert without is not None
        assert words in without
        assert again is None
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step-00000001", "step-00000003"]


def test_no_room_on_one_rank_keeps_the_old_checkpoint_and_training(model: Path, tmp_path: Path) -> None:
    (ranks,) = launch_each(save_without_room, 2, [(RunFolder(tmp_path), model, None)])
    check_no_room(RunFolder(tmp_path), ranks, "File too large")


def test_a_full_disk_keeps_the_old_checkpoint_and_training(model: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"no tmpfs here: {mount.stderr.decode().strip()}")
    try:
        (ranks,) = launch_each(save_without_room, 2, [(RunFolder(tmp_path), model, tmp_path / "ballast")])
        check_no_room(RunFolder(tmp_path), ranks, "No space left on device")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
