"""Row 4 of the faults: GPU memory runs out, as torch says it on a real GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.faults.own_model import fault, words, write_own_model
from tests.gpu.test_run import ON_GPU, SMALL, muster, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.timeout(900),
]


def test_a_model_that_takes_all_of_a_gpu(tmp_path: Path) -> None:
    """Class cuda_oom, what was predicted against what torch had, no other attempt."""
    exported = run(tmp_path / "first", *ON_GPU).export
    own = write_own_model(tmp_path / "own-model", exported)
    hungry = [*SMALL, *words(own), *ON_GPU, "train.rehearsal=false", fault("gpu_memory", 0, 2, tmp_path / "gone")]
    second = tmp_path / "second"
    second.mkdir()
    folder = muster(second, "run", *hungry, status=1)
    argv = [sys.executable, "-m", "muster", "why", str(folder.path), "--json"]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert (found["cause"], found["rank"], found["again"]) == ("cuda_oom", 0, "never")
    facts = " ".join(change["effect"] for change in found["changes"])
    assert "predicted for a rank" in facts
    assert "measured:" in facts
