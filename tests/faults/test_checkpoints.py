"""Rows 13 to 16: saves that are killed or find no room, and checkpoints that are damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import MANIFEST, RunFolder
from tests.faults.local_runs import (
    SHORT,
    folder_of,
    muster,
    run_to_end,
    started,
    steps_of,
    undisturbed,
    wait_for,
    weights,
    why,
)
from tests.slurm.live import lines, outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

STEPS = 24
EVERY = 2
KEPT = 6
WORDS = [
    *SHORT,
    "experiment=demo",
    f"train.max_steps={STEPS}",
    "train.global_batch_size=4",
    "model.shape.hidden_size=256",
    "model.shape.num_hidden_layers=4",
    f"checkpoint.save_steps={EVERY}",
    f"checkpoint.save_total_limit={KEPT}",
]
"""States of some tens of megabytes, so that a save takes long enough to be hit."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def whole(root: Path) -> RunFolder:
    return undisturbed(root, *WORDS)


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [line for line in lines(folder.events) if line["event"] == kind]


def warnings(folder: RunFolder) -> list[str]:
    return [str(line["text"]) for line in events(folder, "warning")]


def saved(folder: RunFolder) -> list[int]:
    """The steps whose checkpoint has its name."""
    return sorted(int(path.name[5:]) for path in folder.checkpoints.glob("step-????????"))


def partial(folder: RunFolder, step: int) -> Path:
    return folder.checkpoints / f".step-{step:08d}.partial"


def kill_all(folder: RunFolder) -> None:
    """What a power cut does: every process of the run ends at once, ranks and writers with the others."""
    name = str(folder.path).encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and name in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def killed_in_its_saves(root: Path, name: str, delays_s: list[float], figures: dict[str, Any]) -> RunFolder:
    """A run that is killed so long into each attempt's first save, and resumed; at last to its end."""
    halves, lost = 0, 0
    for attempt, delay_s in enumerate(delays_s):
        before = 0
        with contextlib.ExitStack() as stack:
            if attempt == 0:
                process, folder = stack.enter_context(started(root, *WORDS, name=name))
            else:
                before = max(saved(folder), default=0)
                process = stack.enter_context(resumed(root, folder))
            # Not by its folder: the attempt before may have left half of the same checkpoint.
            wait_for(lambda run=folder, tried=attempt: is_saving(run, tried), process, "a save")
            time.sleep(delay_s)
            kill_all(folder)
            process.wait()
        assert max(saved(folder), default=0) >= before
        halves += partial(folder, before + EVERY).exists()
        lost += steps_of(folder, attempt)[-1] - max(saved(folder), default=0)
    run_to_end(root, "resume", str(folder.path))
    figures |= {"kills": len(delays_s), "halves_left": halves, "steps_lost": lost}
    return folder


def is_saving(folder: RunFolder, attempt: int) -> bool:
    """Whether an attempt has begun its first save."""
    return any(event["attempt"] == attempt and event["phase"] == "save" for event in events(folder, "phase"))


@contextlib.contextmanager
def resumed(root: Path, folder: RunFolder) -> Iterator[Any]:
    process = muster(root, "resume", str(folder.path))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def assert_exact(folder: RunFolder, whole: RunFolder) -> None:
    """All steps were made, and the weights are those of the run that nothing disturbed."""
    assert outcome(folder)["state"] == "done"
    assert sorted({line["step"] for line in lines(folder.metrics)}) == list(range(1, STEPS + 1))
    assert weights(folder) == weights(whole)
    assert [path.name for path in folder.checkpoints.iterdir() if path.name.startswith(".")] == []


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "kills", [pytest.param(1, id="one kill"), pytest.param(10, id="ten kills", marks=pytest.mark.long)]
)
def test_a_run_killed_in_its_saves(root: Path, whole: RunFolder, figures: dict[str, Any], kills: int) -> None:
    """Half a checkpoint is never used and is removed; the weights at the end are exact."""
    dice = random.Random(kills)
    longest = max(float(event["seconds"]) for event in events(whole, "checkpoint"))
    # Every second one while files are copied and written, the others at any time up to their publication.
    delays_s = [dice.uniform(0.0, longest if number % 2 else min(longest, 0.4)) for number in range(kills)]
    folder = killed_in_its_saves(root, f"killed-{kills}", delays_s, figures)
    assert [text for text in warnings(folder) if "checkpoint" in text] == []
    assert list(folder.checkpoints.glob("*.bad*")) == []
    assert_exact(folder, whole)


def break_checkpoint(path: Path, how: str) -> None:
    shard = sorted(path.glob("states/*optim_states.pt"))[-1]
    if how == "bit flipped":
        with shard.open("r+b") as file:
            file.seek(shard.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    elif how == "truncated":
        os.truncate(shard, shard.stat().st_size - 1)
    elif how == "empty":
        os.truncate(shard, 0)
    elif how == "missing":
        shard.unlink()
    elif how == "dangling":
        (path / MANIFEST).rename(path / "elsewhere.json")
        (path / MANIFEST).symlink_to(path / "nowhere.json")


DAMAGE = {
    "bit flipped": "is not what was written",
    "truncated": "bytes instead of",
    "empty": "has 0 bytes",
    "missing": "is missing",
    "dangling": "there is no manifest.json",
}


@pytest.mark.fault(14)
@pytest.mark.fault(15)
def test_damaged_checkpoints(root: Path, whole: RunFolder, figures: dict[str, Any]) -> None:
    """All bad: a clear end. One good: it is used, the others are put aside, each with its reason; exact."""
    with started(root, *WORDS, name="damaged") as (process, folder):
        wait_for(lambda: len(saved(folder)) > len(DAMAGE), process, "enough checkpoints")
        kill_all(folder)
        process.wait()
    steps = saved(folder)
    kept = root / "kept"
    shutil.copytree(folder.checkpoints, kept)

    for step in steps:
        break_checkpoint(folder.checkpoint(step), "bit flipped")
    with resumed(root, folder) as process:
        at = time.monotonic()
        assert process.wait(240) == 1
        figures["ended_s"] = round(time.monotonic() - at, 1)
    stands = outcome(folder)
    assert (stands["state"], stands["failure"]["cause"]) == ("failed", "checkpoint")
    assert f"none of the {len(steps)} checkpoints" in stands["failure"]["message"]
    assert why(root, folder)["cause"] == "checkpoint"
    assert steps_of(folder, 1) == []

    shutil.rmtree(folder.checkpoints)
    shutil.copytree(kept, folder.checkpoints)
    bad = steps[-len(DAMAGE) :]
    for step, how in zip(bad, DAMAGE, strict=True):
        break_checkpoint(folder.checkpoint(step), how)
    run_to_end(root, "resume", str(folder.path))
    assert steps_of(folder, 2)[0] == steps[-len(DAMAGE) - 1] + 1
    said = [text for text in warnings(folder) if "is not used" in text][-len(DAMAGE) :]
    for text, step, words in zip(reversed(said), bad, DAMAGE.values(), strict=True):
        assert f"checkpoint of step {step} is not used" in text
        assert words in text
    assert sorted(path.name for path in folder.checkpoints.glob("*.bad")) == [f"step-{step:08d}.bad" for step in bad]
    figures["steps_lost"] = steps[-1] - steps[-len(DAMAGE) - 1]
    assert_exact(folder, whole)


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `path`; gives the file that fills it up."""
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no small file system here: {made.stderr.decode().strip()}")
    try:
        yield path / "ballast"
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.fault(16)
def test_full_disks(tmp_path: Path, figures: dict[str, Any]) -> None:
    """The disk of the checkpoints is full, then that of everything else: said, nothing lost, and the run goes on."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    steps, runs = 80, tmp_path / "runs"
    words = [*SHORT, "experiment=demo", f"train.max_steps={steps}", f"checkpoint.save_steps={EVERY}"]
    with contextlib.ExitStack() as stack:
        logs = stack.enter_context(small_disk(runs, "100m"))
        process = muster(tmp_path, "run", *words, "name=full", f"run_root={runs}")
        stack.callback(process.kill)
        wait_for(lambda: folder_of(runs, "full") is not None, process, "a run folder")
        folder = folder_of(runs, "full")
        assert folder is not None
        states = stack.enter_context(small_disk(folder.checkpoints, "100m"))

        wait_for(lambda: saved(folder), process, "a checkpoint")
        fill(states)
        wait_for(lambda: any("no checkpoint of step" in text for text in warnings(folder)), process, "the warning")
        kept = saved(folder)
        assert kept
        states.unlink()
        wait_for(lambda: max(saved(folder)) > max(kept), process, "a save after there is room again")

        fill(logs)
        wait_for(lambda: max(saved(folder)) > lines(folder.metrics)[-1]["step"] + EVERY, process, "unseen steps")
        logs.unlink()
        assert process.wait(240) == 0
        assert any("No space left on device" in text for text in warnings(folder))
        (waited,) = [text for text in warnings(folder) if "metrics.jsonl waited" in text]
        assert "all are there now" in waited
        assert steps_of(folder, 0) == list(range(1, steps + 1))
        assert (outcome(folder)["state"], outcome(folder)["step"]) == ("done", steps)
        assert max(saved(folder)) == steps
        assert [path.name for path in folder.checkpoints.iterdir() if path.name.startswith(".")] == []
        figures["steps_lost"] = 0
