"""The real thing: GSM8K, ZeRO-3 on two Slurm nodes, by the real command line, as an ordinary person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conf.files import read_objects
from conf.layout import RunFolder
from tests.slurm.live import metrics, outcome, submit, wait_for, wait_for_end, wait_for_step
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

SMALL = [
    "experiment=gsm8k",
    "cluster=devcluster",
    "cluster.nodes=2",
    "data.max_length=192",
    "train.global_batch_size=8",
    "train.eval_samples=8",
    "tracking=none",
    "train.precision=fp32",
]
STEPS = 120
"""More than are made while a person looks and stops."""


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


def test_fifty_steps_evaluated_exported_and_complete(person: Person, work: Path) -> None:
    """50 steps on two nodes: the loss falls, every step is in the metrics, the exported model was checked."""
    folder, run_id = submit(person, work, *SMALL, "name=road", "train.max_steps=50", "train.eval_steps=25")
    wait_for_end(folder, "done")

    steps = [line for line in metrics(folder) if "train/loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 51))
    assert steps[-1]["train/loss"] < 0.75 * steps[0]["train/loss"]
    assert [line["step"] for line in metrics(folder) if "eval/loss" in line][-1] == 50
    assert outcome(folder)["export_verified"] is True
    assert (folder.export / "config.json").exists()

    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    started = next(event for event in events if event["event"] == "attempt_started")
    assert started["world_size"] == 2
    assert len(set(started["hosts"])) == 2
    (status,) = json.loads(person.muster("status", run_id, "--json", cwd=work))
    assert (status["state"], status["step"]) == ("done", 50)
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_stop_and_resume(person: Person, work: Path) -> None:
    """`muster stop` saves and ends; `muster resume` goes on with the next step and finishes; both nodes are watched."""
    words = (f"train.max_steps={STEPS}", "train.eval_strategy=no", "tracking.system_interval_s=0.5")
    folder, run_id = submit(person, work, *SMALL, "name=halves", *words)
    wait_for_step(folder, 3)
    wait_for(lambda: 0 in attempts_that_heard_both(folder), folder, "a look at both nodes")
    person.muster("stop", run_id, cwd=work)
    wait_for_end(folder, "stopped")
    at = outcome(folder)["step"]
    assert isinstance(at, int)
    assert 3 <= at < STEPS
    person.muster("resume", run_id, cwd=work)
    wait_for_end(folder, "done")
    steps = [(line["attempt"], line["step"]) for line in metrics(folder) if "train/loss" in line]
    assert steps == [(0, step) for step in range(1, at + 1)] + [(1, step) for step in range(at + 1, STEPS + 1)]
    assert attempts_that_heard_both(folder) == {0, 1}


def attempts_that_heard_both(folder: RunFolder) -> set[int]:
    """The attempts in which node 0 wrote a line about both nodes."""
    return {line["attempt"] for line in read_objects(folder.system) if line["nodes/count"] == 2}
