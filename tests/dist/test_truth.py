"""What a plan predicted beside what its run measured, and the next plan that has learned of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.measured import read_measured
from launcher.runs.predicted import compared_memory, compared_step

pytestmark = pytest.mark.dist

STEPS = 9
WORDS = ["experiment=demo", "tracking=none", "cluster.gpus_per_node=0", "cluster.ranks_per_node=2"]
WORDS += [f"train.max_steps={STEPS}", "train.eval_strategy=no", "checkpoint.export=never", "train.eval_samples=0"]


def muster(folder: Path, verb: str, *words: str) -> str:
    command = [str(Path(sys.executable).parent / "muster"), verb, *words]
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_measures_what_was_predicted_and_the_next_plan_learns(tmp_path: Path) -> None:
    before = json.loads(muster(tmp_path, "plan", *WORDS, "name=next", "--json"))["plan"]["time"]
    muster(tmp_path, "run", *WORDS, "name=first")
    (path,) = (tmp_path / "runs").glob("first-*")
    folder = RunFolder(path)
    memory, step = compared_memory(folder), compared_step(folder)
    assert memory is not None
    assert step is not None
    assert step.predicted == pytest.approx(before["step"]["likely"])
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    (told,) = [line for line in lines if "plan/memory_measured_gib" in line]
    assert told["step"] == 1
    assert told["plan/memory_measured_gib"] == pytest.approx(memory.measured / 2**30)
    assert "measured" in muster(tmp_path, "status", "first")
    (record,) = read_measured(tmp_path / "state" / "muster" / "measured")
    assert (record.architecture, record.stage, record.ranks, record.run) == ("llama", 3, 2, path.name)
    assert record.time_ratio == pytest.approx(step.ratio)
    after: dict[str, Any] = json.loads(muster(tmp_path, "plan", *WORDS, "name=next", "--json"))["plan"]["time"]
    assert after["step"]["likely"] == pytest.approx(step.measured, rel=1e-3)
    assert after["correction"]["runs"] == 1
