"""`muster run` on this machine's GPUs: the demo in every way to shard it, beside the same run on the CPU.

One GPU is enough; with several the sharded cases use two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conf.layout import RunFolder
from conf.outcome import State, read_outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.timeout(900),
]

GPUS = min(2, torch.cuda.device_count())
STEPS = 6
SMALL = ["experiment=demo", f"train.max_steps={STEPS}", "train.eval_strategy=no", "train.eval_samples=0"]
SMALL += ["tracking=none", "checkpoint.save_steps=0"]
ON_GPU = [f"cluster.gpus_per_node={GPUS}", f"cluster.ranks_per_node={GPUS}"]
ROUNDED = 2e-2
"""Largest relative difference of a bf16 loss from fp32."""


def muster(folder: Path, *words: str, status: int = 0) -> RunFolder:
    """`muster run` or another verb in `folder`; the one run folder there."""
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    command = [str(Path(sys.executable).parent / "muster"), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    runs = sorted((folder / "runs").glob("[!.]*"))
    logs = "".join(path.read_text()[-4000:] for path in sorted(folder.glob("runs/*/attempts/*/logs/*.log")))
    assert done.returncode == status, f"{done.stdout[-2000:]}{done.stderr[-4000:]}{logs}"
    return RunFolder(runs[-1])


def run(folder: Path, *overrides: str) -> RunFolder:
    folder.mkdir(exist_ok=True)
    found = muster(folder, "run", *SMALL, *overrides)
    outcome = read_outcome(found.outcome)
    assert outcome is not None
    assert outcome.state is State.done
    return found


def curve(found: RunFolder, name: str = "train/loss") -> list[float]:
    lines = map(json.loads, found.metrics.read_text().splitlines())
    return [float(line[name]) for line in lines if name in line]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The loss of each step in fp32 on the CPU."""
    folder = tmp_path_factory.mktemp("cpu")
    overrides = ("cluster.gpus_per_node=0", "train.precision=fp32", "checkpoint.export=never")
    return curve(run(folder, *overrides))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", range(4))
def test_the_curve_is_the_one_of_the_cpu(tmp_path: Path, on_cpu: list[float], stage: int, precision: str) -> None:
    found = run(tmp_path, *ON_GPU, f"parallel=zero{stage}", f"train.precision={precision}")
    assert curve(found) == pytest.approx(on_cpu, rel=1e-4 if precision == "fp32" else ROUNDED)
    outcome = read_outcome(found.outcome)
    assert outcome is not None
    assert outcome.export_verified


def test_fp16_finds_its_scale(tmp_path: Path, on_cpu: list[float]) -> None:
    found = run(tmp_path, *ON_GPU, "parallel=zero2", "train.precision=fp16", "checkpoint.export=never")
    assert curve(found)[0] == pytest.approx(on_cpu[0], rel=ROUNDED)


@pytest.mark.parametrize("parallel", ["zero2_offload", "zero3_offload"])
def test_offload(tmp_path: Path, on_cpu: list[float], parallel: str) -> None:
    found = run(tmp_path, *ON_GPU, f"parallel={parallel}", "train.precision=bf16", "checkpoint.export=never")
    assert curve(found) == pytest.approx(on_cpu, rel=ROUNDED)
    assert "CPU" in found.events.read_text()


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_both_ways_to_start(tmp_path: Path, start: str) -> None:
    found = run(tmp_path, *ON_GPU, f"cluster.start={start}", "checkpoint.export=never")
    started = [json.loads(line) for line in found.events.read_text().splitlines() if '"attempt_started"' in line]
    assert [event["start"] for event in started] == [start]


def test_a_deterministic_run_gives_the_same_bits_twice(tmp_path: Path) -> None:
    overrides = (*ON_GPU, "train.deterministic=true", "train.precision=bf16", "checkpoint.export=never")
    first, second = (run(tmp_path / name, *overrides) for name in ("first", "second"))
    for name in ("train/loss", "train/grad_norm"):
        assert curve(first, name) == curve(second, name)


def test_a_gpu_known_by_name_has_its_mfu(tmp_path: Path) -> None:
    from train.model.flops import peak_operations

    if peak_operations(torch.device("cuda", 0)) is None:
        pytest.skip(f"peak of {torch.cuda.get_device_name(0)} not known")
    shares = curve(run(tmp_path, *ON_GPU, "checkpoint.export=never"), "perf/mfu")
    assert len(shares) == STEPS
    assert all(0 < share < 1 for share in shares)
