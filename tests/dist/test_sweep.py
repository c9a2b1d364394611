"""`muster run -m` through the real command: its points one after the other, then how each stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from conf.record import read_plan

pytestmark = pytest.mark.dist

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("train.max_steps=1", "train.eval_strategy=no", "train.eval_samples=0", "checkpoint.export=never")


def test_each_point_of_a_sweep_is_a_run_of_its_own(tmp_path: Path) -> None:
    words = ["run", "-m", "experiment=demo", "tracking=none", "train.seed=1,2", *SHORT]
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("MUSTER_SITE", None)
    command = [sys.executable, str(ROOT / "muster.py"), *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folders = [RunFolder(path) for path in sorted((tmp_path / "runs").glob("demo-seed-*"))]
    assert [read_plan(folder.run_json).config.train.seed for folder in folders] == [1, 2]
    table, _, hint = done.stdout.rpartition("--- 2 points")[2].partition("\n\n")
    summary = [line.split() for line in table.splitlines()[2:]]
    for number, (folder, row) in enumerate(zip(folders, summary, strict=True), start=1):
        outcome = read_outcome(folder.outcome)
        assert outcome is not None
        assert (outcome.state, outcome.step) == (State.done, 1)
        assert row == [f"train.seed={number}", "done", str(folder.path)]
    assert hint.split()[:4] == ["table", "muster", "sweep", "status"]


def test_optuna_s_trials_are_runs_and_the_same_command_with_more_of_them_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    fixed = ["run", "-m", "sweep=optuna", "experiment=demo", "tracking=none", "cluster.ranks_per_node=1", *SHORT]
    words = [*fixed, "optim.learning_rate=tag(log,interval(1e-4,1e-2))", "sweep.pruner=none"]
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("MUSTER_SITE", None)

    def search(trials: int) -> tuple[list[str], dict[str, float]]:
        command = [sys.executable, str(ROOT / "muster.py"), *words, f"sweep.trials={trials}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        folders = [RunFolder(path) for path in (tmp_path / "runs").glob("demo-learning_rate-*")]
        outcomes = {folder.path.name: read_outcome(folder.outcome) for folder in folders}
        return done.stdout.splitlines(), {name: end.metrics["eval/loss"] for name, end in outcomes.items() if end}

    _, first = search(1)
    lines, losses = search(2)
    assert len(first) == 1
    assert len(losses) == 2
    assert losses.items() >= first.items()
    assert sum(" started: " in line for line in lines) == 1
    best = next(line for line in lines if line.startswith("best "))
    assert best.endswith(f"eval/loss {min(losses.values()):.6g}")
