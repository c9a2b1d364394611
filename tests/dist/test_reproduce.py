"""`muster reproduce`: the run once more has the same losses, bit for bit, from the same code and data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.metrics import merge_steps
from conf.record import read_plan
from launcher.compare.compare import compare
from launcher.runs.read import read_lines
from tests.dist.test_sweep_here import muster

pytestmark = pytest.mark.dist


def losses(folder: RunFolder) -> list[tuple[int, float, float]]:
    lines = merge_steps(read_lines(folder.metrics)).items()
    return [(step, line["train/loss"], line["train/grad_norm"]) for step, line in lines if "train/loss" in line]


def test_a_run_again_is_the_same_run(tmp_path: Path) -> None:
    words = ("tracking=none", "train.max_steps=3", "train.eval_strategy=no", "checkpoint.export=never")
    muster(tmp_path, "run", "experiment=demo", "train.seed=5", "cluster.ranks_per_node=1", *words)
    said = muster(tmp_path, "reproduce", "demo")
    assert "not as it was" not in said
    one, other = (RunFolder(next(tmp_path.glob(f"runs/{name}-????????"))) for name in ("demo", "demo-again"))
    assert one.path.name[-8:] == other.path.name[-8:]
    assert len(losses(one)) == 3
    assert losses(one) == losses(other)
    assert read_plan(other.run_json).config.train.seed == 5
    assert (one.path / "code/muster.zip").read_bytes() == (other.path / "code/muster.zip").read_bytes()
    found = compare(one, other, {})
    assert found.parts["data"] == found.parts["code"] == found.parts["plan"] == found.parts["configuration"] == []
    prepared = json.loads(one.data_json.read_text())
    assert all(len(part["digest"]) == 64 for part in prepared["splits"]["train"]["parts"])
