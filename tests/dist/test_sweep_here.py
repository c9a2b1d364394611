"""`muster run -m` with several points at a time; what is done stays done when the command is given again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.dist

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("train.max_steps=1", "train.eval_strategy=no", "train.eval_samples=0", "checkpoint.export=never")


def muster(folder: Path, *words: str) -> str:
    environment = {**os.environ, "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("MUSTER_SITE", None)
    command = [sys.executable, str(ROOT / "muster.py"), *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_points_at_a_time(tmp_path: Path) -> None:
    words = ["experiment=demo", "tracking=none", "cluster.ranks_per_node=1", "sweep.jobs=2", *SHORT]
    said = muster(tmp_path, "run", "-m", *words, "train.seed=1,2")
    found = json.loads(muster(tmp_path, "sweep", "status", "demo", "--json"))
    assert [(point["point"], point["state"]) for point in found["points"]] == [
        (["train.seed=1"], "done"),
        (["train.seed=2"], "done"),
    ]
    starts = [json.loads(path.read_text())["time"] for path in tmp_path.glob("runs/demo-*/attempts/0/job.json")]
    ends = [json.loads(path.read_text())["time"] for path in tmp_path.glob("runs/demo-*/outcome.json")]
    assert max(starts) < min(ends)
    assert said.rstrip().endswith(f"muster sweep status {found['sweep']}")
    muster(tmp_path, "run", "-m", *words, "train.seed=1,2")
    assert len(list(tmp_path.glob("runs/demo-*/attempts/*"))) == 2

    # A point that broke off is run again from its folder, a further one joins; what is done stays.
    broken = next(tmp_path.glob("runs/demo-*seed-2*"))
    outcome = json.loads((broken / "outcome.json").read_text())
    (broken / "outcome.json").write_text(json.dumps({**outcome, "state": "failed"}))
    muster(tmp_path, "sweep", "retry", "demo")
    assert len(list(broken.glob("attempts/*"))) == 2
    muster(tmp_path, "sweep", "extend", "demo", "-m", "train.seed=3")
    found = json.loads(muster(tmp_path, "sweep", "status", "demo", "--json"))
    assert [point["state"] for point in found["points"]] == ["done"] * 3
    assert len(list(tmp_path.glob("runs/demo-*/attempts/*"))) == 4
