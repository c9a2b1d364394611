"""Useful tokens a second of full fine-tuning, and the share of the chip's peak: packed, against the Trainer.

With a GPU: llamas of 1 and 3 billion parameters at 4,096 tokens in bf16. Without one: a tiny shape, which proves the
command and says nothing about speed.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.inputs import Case, make, muster, peer
from benchmarks.measure import Report, interleave

TITLE = "Useful tokens a second of full fine-tuning"
ONE_GPU = Case(
    ranks=1,
    precision="bf16",
    zero_stage=1,
    global_batch_size=16,
    micro_batch_size=1,
    steps=16,
    uneven=True,
    mean_length=1400,
    max_length=4096,
    vocabulary=128256,
)
CASES = {
    "1B": replace(ONE_GPU, hidden_size=2048, layers=16, heads=32),
    "3B": replace(ONE_GPU, hidden_size=3072, layers=28, heads=24),
}
TINY = Case(zero_stage=2, global_batch_size=32, micro_batch_size=4, uneven=True, steps=12)


def main(runs: int) -> None:
    import torch

    gpu = torch.cuda.is_available()
    for name, case in (CASES if gpu else {"tiny": TINY}).items():
        measure(name, case, runs, ["cluster.gpus_per_node=1"] if gpu else [])


def measure(name: str, case: Case, runs: int, more: list[str]) -> None:
    """One shape: Muster and the Trainer in turn."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make(folder, case)
        arrays = np.load(folder / "documents.npz")
        tokens = float(np.diff(arrays["offsets"])[arrays["order"]].sum()) / case.steps
        comparison = interleave(
            {
                "muster run": lambda: tokens / muster(folder, case, "tracking=none", *more).step_s,
                "HF Trainer": lambda: tokens / peer(folder, case, "hf_trainer").step_s,
            },
            runs,
            unit="tokens/s",
        )
        notes = {"MFU in the last run": _mfu(folder)}
    title = f"{TITLE}: {name}, {case.ranks} ranks, {case.precision}, ZeRO-{case.zero_stage}"
    targets = {"HF Trainer": "≥ 1.5"} if more else {}
    Report(f"throughput-{name}", title, comparison, "muster run", targets, notes).write()


def _mfu(folder: Path) -> str:
    (metrics,) = (folder / "runs").glob("[!.]*/metrics.jsonl")
    values = [line["perf/mfu"] for line in map(json.loads, metrics.read_text().splitlines()) if "perf/mfu" in line]
    return f"{np.median(values):.1%}" if values else "not known for this device"
