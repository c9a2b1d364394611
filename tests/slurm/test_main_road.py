"""The real thing: GSM8K, ZeRO-3 on two Slurm nodes, by the real command line, as an ordinary person."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.layout import RunFolder
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

SMALL = [
    "experiment=gsm8k",
    "cluster=devcluster",
    "cluster.nodes=2",
    "data.max_length=128",
    "train.global_batch_size=16",
    "tracking=none",
    "train.precision=fp32",
]


@pytest.fixture(scope="module")
def work(person: Person, shared_data: Path) -> Path:
    """A folder of the person's with GSM8K in it, as the experiment expects it: 3,000 questions, 100 to evaluate."""
    folder = person.home / "work"
    shutil.copytree(shared_data / "gsm8k", folder / "gsm8k")
    questions = (folder / "gsm8k" / "test.jsonl").read_text().splitlines(keepends=True)
    (folder / "gsm8k" / "test.jsonl").write_text("".join(questions[:100]))
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, person.uid, person.gid)
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def submit(person: Person, work: Path, *overrides: str) -> tuple[RunFolder, str]:
    """`muster submit` of a small run: its folder and id."""
    said = json.loads(person.muster("submit", *SMALL, *overrides, "--json", cwd=work))
    return RunFolder(Path(said["folder"])), said["id"]


def outcome(folder: RunFolder) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(folder.outcome.read_text())
    except FileNotFoundError:
        return {}
    return found


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    if not folder.metrics.exists():
        return []
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def wait_for(seen: Callable[[], object], folder: RunFolder, what: str, limit_s: float = 240) -> None:
    """Come back as soon as `seen` holds; else fail with the logs."""
    deadline = time.monotonic() + limit_s
    while not seen():
        if time.monotonic() > deadline:
            logs = [path.read_text()[-1500:] for path in sorted(folder.attempts.glob("*/logs/*.log"))]
            raise AssertionError(f"{what} did not happen in {limit_s:.0f} s\n" + "\n---\n".join(logs))
        time.sleep(0.5)


def wait_for_step(folder: RunFolder, step: int) -> None:
    wait_for(lambda: any(line["step"] >= step for line in metrics(folder)), folder, f"step {step}")


def wait_for_end(folder: RunFolder, state: str) -> None:
    wait_for(lambda: outcome(folder).get("state") == state, folder, f"state {state}")


def test_fifty_steps_evaluated_exported_and_complete(person: Person, work: Path) -> None:
    """50 steps on two nodes: the loss falls, every step is in the metrics, the exported model was checked."""
    folder, run_id = submit(person, work, "name=road", "train.max_steps=50", "train.eval_steps=25")
    wait_for_end(folder, "done")

    steps = [line for line in metrics(folder) if "train/loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 51))
    assert steps[-1]["train/loss"] < 0.7 * steps[0]["train/loss"]
    assert [line["step"] for line in metrics(folder) if "eval/loss" in line][-1] == 50
    assert outcome(folder)["export_verified"] is True
    assert (folder.export / "config.json").exists()

    started = next(
        e for e in map(json.loads, folder.events.read_text().splitlines()) if e["event"] == "attempt_started"
    )
    assert started["world_size"] == 2
    assert len(set(started["hosts"])) == 2
    (status,) = json.loads(person.muster("status", run_id, "--json", cwd=work))
    assert (status["state"], status["step"]) == ("done", 50)
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_stop_resume_and_the_same_weights(person: Person, work: Path) -> None:
    """A run stopped in the middle and resumed ends in the very weights of one that was left alone."""
    whole, _ = submit(person, work, "name=whole", "train.max_steps=24", "train.eval_strategy=no")
    halves, run_id = submit(person, work, "name=halves", "train.max_steps=24", "train.eval_strategy=no")
    wait_for_step(halves, 6)
    person.muster("stop", run_id, cwd=work)
    wait_for_end(halves, "stopped")
    at = outcome(halves)["step"]
    assert isinstance(at, int)
    assert 6 <= at < 24
    person.muster("resume", run_id, cwd=work)
    wait_for_end(halves, "done")
    wait_for_end(whole, "done")
    for name in ("model.safetensors",):
        assert (whole.export / name).read_bytes() == (halves.export / name).read_bytes()
    assert sorted(path.name for path in halves.attempts.iterdir()) == ["0", "1"]


def test_cancel_ends_now_and_is_said(person: Person, work: Path) -> None:
    """`muster cancel` ends the job without another attempt, and the state says who did it."""
    folder, run_id = submit(person, work, "name=gone", "train.max_steps=5000")
    wait_for_step(folder, 2)
    person.muster("cancel", run_id, cwd=work)
    wait_for_end(folder, "cancelled")
    (status,) = json.loads(person.muster("status", run_id, "--json", cwd=work))
    assert status["state"] == "cancelled"
    assert [path.name for path in folder.attempts.iterdir()] == ["0"]


def test_time_limit_saves_requeues_and_goes_on(person: Person, work: Path) -> None:
    """The warning of the time limit makes the run save and go back into the queue, where it goes on."""
    folder, _ = submit(person, work, "name=limit", "train.max_steps=40", "train.eval_strategy=no")
    wait_for_step(folder, 5)
    job = json.loads(folder.submissions.read_text().splitlines()[-1])["job_id"]
    person.run("scancel", "--batch", "--signal=USR1", str(job))
    wait_for(lambda: (folder.attempts / "0" / "decision").exists(), folder, "a decision")
    assert (folder.attempts / "0" / "decision").read_text().strip() == "requeue"
    saved = outcome(folder)
    assert saved["state"] == "time_limit"
    start_now(person, job, folder)
    wait_for_end(folder, "done")
    second = [line["step"] for line in metrics(folder) if line["attempt"] == 1 and "train/loss" in line]
    assert second[0] == int(str(saved["step"])) + 1
    assert second[-1] == 40


def start_now(person: Person, job: int, folder: RunFolder) -> None:
    """Spare the test the two minutes that Slurm holds a requeued job back, which only root may do."""

    def pending() -> bool:
        return person.run("squeue", "-h", "-j", str(job), "-o", "%T").stdout.strip() == "PENDING"

    wait_for(pending, folder, "the job back in the queue")
    if os.geteuid() == 0:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True, env=person.environment)
