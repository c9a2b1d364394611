"""Programs of a person's own (`task=script`), on this machine: a plain loop and Hugging Face's Trainer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.dist

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests"
COMMON = ("task=script", "cluster.ranks_per_node=2")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A person's git checkout with the programs in a folder of their own."""
    folder = tmp_path / "project"
    shutil.copytree(GUESTS, folder / "own", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def started(project: Path, *words: str) -> subprocess.Popen[str]:
    home = project.parent / "home"
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "WANDB_API_KEY": "canary"}
    environment.pop("MUSTER_SITE", None)
    argv = [sys.executable, str(ROOT / "muster.py"), *words]
    return subprocess.Popen(
        argv, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def muster(project: Path, *words: str, code: int = 0) -> str:
    process = started(project, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def the_run(project: Path, name: str) -> Path:
    (run,) = (project / "runs").glob(f"{name}-????????")
    return run


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def outcome(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "outcome.json").read_text())
    return found


def wait_for(seen: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not seen():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_mistake_is_named_and_the_next_attempt_goes_on(project: Path) -> None:
    words = ("train.entrypoint=own/plain.py", "train.options={lr: 0.25}", "name=fit")
    muster(project, "run", *COMMON, *words, "--", "--fail-at", "8", code=1)
    run = the_run(project, "fit")
    assert outcome(run)["failure"]["rank"] == 1
    assert outcome(run)["failure"]["message"] == "ValueError: a mistake of the program's own"
    assert outcome(run)["failure"]["cause"] == "user_code"
    why = muster(project, "why", "fit", code=0)
    assert "a mistake of the program's own" in why
    assert "rank 1" in why

    muster(project, "resume", "fit")
    assert outcome(run)["state"] == "done"
    assert outcome(run)["step"] == 20
    steps = [(line["attempt"], line["step"]) for line in lines(run)]
    assert steps == [(0, step) for step in range(1, 8)] + [(1, step) for step in range(6, 21)]
    assert [line["train/loss"] for line in lines(run)][-1] == pytest.approx(4 * 0.25**20)
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert b"canary" not in written


def test_what_was_edited_after_the_start_does_not_count(project: Path) -> None:
    """The run is asked to stop, its source is broken in the meantime, and it goes on from its snapshot."""
    words = ("train.entrypoint=own/plain.py", "name=slow", "train.options={steps: 400, nap: 0.02}")
    process = started(project, "run", *COMMON, *words)
    wait_for(lambda: list((project / "runs").glob("slow-*/metrics.jsonl")), process)
    run = the_run(project, "slow")
    wait_for(lambda: len(lines(run)) >= 3, process)
    (project / "own" / "plain.py").write_text("raise SystemExit('edited')")
    muster(project, "stop", "slow")
    process.communicate(timeout=120)
    stopped = outcome(run)
    assert stopped["state"] == "stopped"
    assert 3 <= stopped["step"] < 400
    muster(project, "resume", "slow")
    assert outcome(run)["state"] == "done"
    assert [line["step"] for line in lines(run)] == list(range(1, 401))


def test_the_trainer_of_hugging_face_as_a_guest(project: Path) -> None:
    muster(project, "run", *COMMON, "train.entrypoint=own/hf_trainer.py", "name=hf", "--", "6")
    run = the_run(project, "hf")
    assert outcome(run)["state"] == "done"
    assert [line["step"] for line in lines(run)] == list(range(1, 7))
    assert (run / "checkpoints" / "checkpoint-6" / "model.safetensors").is_file()


def test_what_cannot_be_started_is_said_at_once(project: Path) -> None:
    (project / ".gitignore").write_text("ignored.py\n")
    (project / "ignored.py").touch()
    for given, said in (
        ((), "train.entrypoint is missing"),
        (("train.entrypoint=none.py",), "is not there"),
        (("train.entrypoint=ignored.py",), ".gitignore"),
        (("train.entrypoint=own/plain.py", "train.options={a/b: 1}"), "is no name of an option"),
        (("train.entrypoint=own/plain.py", "cluster.start=fork"), "cluster.start=fork"),
    ):
        assert said in muster(project, "run", *COMMON, *given, code=2)
    assert not (project / "runs").exists()
    assert "means nothing for task=causal_lm" in muster(
        project, "run", "experiment=demo", "train.entrypoint=x.py", code=2
    )
    shutil.rmtree(project / ".git")
    assert "git init" in muster(project, "run", *COMMON, "train.entrypoint=own/plain.py", code=2)
