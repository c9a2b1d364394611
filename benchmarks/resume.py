"""Seconds a gigabyte from a checkpoint on the disk to states in every rank: plainly, and for other numbers of ranks."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import Report, interleave, seconds_of
from conf.layout import RunFolder

TITLE = "Taking up a checkpoint of 75 M parameters in fp32 with AdamW, verified, saved by 2 ranks; seconds a GB"
SAVED_BY = 2
STAGES = (2, 3)
RANKS = {"plain, 2 ranks": 2, "converted, 3 ranks": 3, "converted, 1 rank": 1}


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        folders = {stage: saved(Path(work) / f"zero{stage}", stage) for stage in STAGES}
        measured: dict[str, Callable[[], float]] = {
            f"ZeRO-{stage}, {name}": partial(seconds_per_gb, folders[stage], stage, count)
            for stage in STAGES
            for name, count in RANKS.items()
        }
        sizes = {f"GB, ZeRO-{stage}": round(gigabytes(folder), 3) for stage, folder in folders.items()}
        comparison = interleave(measured, runs, unit="s/GB")
    ours = "ZeRO-3, plain, 2 ranks"
    Report("resume", TITLE, comparison, ours, notes=sizes | {"disk": "what was written lies in the page cache"}).write()


def saved(path: Path, stage: int) -> RunFolder:
    path.mkdir()
    ranks(path, stage, SAVED_BY, "save")
    return RunFolder(path)


def seconds_per_gb(folder: RunFolder, stage: int, count: int) -> float:
    """A first take-up: what an earlier one had converted is gone."""
    shutil.rmtree(folder.universal(1), ignore_errors=True)
    ranks(folder.path, stage, count, "load")
    return float(json.loads((folder.path / "taken.json").read_text())) / gigabytes(folder)


def gigabytes(folder: RunFolder) -> float:
    sizes: list[int] = [entry["size"] for entry in json.loads(folder.manifest(1).read_bytes())["files"]]
    return sum(sizes) / 1e9


def ranks(path: Path, stage: int, count: int, action: str) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    env = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    seconds_of([*launch, "-m", "benchmarks.peers.resume_ranks", str(path), str(stage), action], env)
