"""Seconds that the loop stands still for a checkpoint, and until it is on the disk."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Comparison, Report

ROOT = Path(__file__).resolve().parents[1]
RANKS = (1, 2)
TARGETS = {"Muster": "≤ 0.06"}


def main(runs: int) -> None:
    for ranks in RANKS:
        saves = measured(ranks, runs)
        names = list(dict.fromkeys(save["name"] for save in saves))

        def figures(key: str, saves: list[dict[str, Any]] = saves, names: list[str] = names) -> dict[str, list[float]]:
            return {name: [save[key] / save["bytes"] * 1e9 for save in saves if save["name"] == name] for name in names}

        durable = {name: [1 / seconds for seconds in values] for name, values in figures("durable_s").items()}
        notes: dict[str, Any] = {
            f"durable GB/s, {name}": f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
            for name, values in durable.items()
        }
        notes["bytes a save"] = statistics.median(save["bytes"] for save in saves)
        title = f"Seconds the loop stands still for each GB saved: {ranks} rank{'s' * (ranks > 1)}, ZeRO-3, fp32, AdamW"
        name = "checkpoint" if ranks == max(RANKS) else f"checkpoint_{ranks}_rank"
        Report(name, title, Comparison(figures("stall_s"), "s/GB"), "Muster", TARGETS, notes).write()


def measured(ranks: int, rounds: int) -> list[dict[str, Any]]:
    """The counted saves of a group of ranks, each way in turn."""
    with tempfile.TemporaryDirectory() as folder:
        program = ["-m", "benchmarks.peers.saving", folder, str(rounds)]
        launch = [str(Path(sys.executable).parent / "torchrun"), "--standalone", f"--nproc-per-node={ranks}", *program]
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(launch, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"saving failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    print(done.stdout, file=sys.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return [line for line in lines if line["counted"]]
