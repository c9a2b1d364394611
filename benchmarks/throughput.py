"""Useful tokens a second of full fine-tuning, and the share of the chip's peak: packed, against the Trainer.

With a GPU: llamas of 1 and 3 billion parameters at 4,096 tokens in bf16. Without one: a tiny shape, which proves the
command and says nothing about speed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.inputs import Case, make, muster, peer
from benchmarks.measure import Report, interleave

TITLE = "Useful tokens a second of full fine-tuning"
GPU = dict(ranks=1, precision="bf16", zero_stage=1, global_batch_size=16, micro_batch_size=1, steps=16, uneven=True)
CASES = {
    "1B": Case(**GPU, mean_length=1400, max_length=4096, hidden_size=2048, layers=16, heads=32, vocabulary=128256),
    "3B": Case(**GPU, mean_length=1400, max_length=4096, hidden_size=3072, layers=28, heads=24, vocabulary=128256),
}
TINY = Case(zero_stage=2, global_batch_size=32, micro_batch_size=4, uneven=True, steps=12)


def main(runs: int) -> None:
    import torch

    cases = CASES if torch.cuda.is_available() else {"tiny": TINY}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            make(folder, case)
            arrays = np.load(folder / "documents.npz")
            tokens = float(np.diff(arrays["offsets"])[arrays["order"]].sum()) / case.steps
            gpus = ["cluster.gpus_per_node=1"] if torch.cuda.is_available() else []
            comparison = interleave(
                {
                    "muster run": lambda: tokens / muster(folder, case, "tracking=none", *gpus).step_s,
                    "HF Trainer": lambda: tokens / peer(folder, case, "hf_trainer").step_s,
                },
                runs,
                unit="tokens/s",
            )
            notes = {"MFU in the last run": _mfu(folder)}
        title = f"{TITLE}: {name}, {case.ranks} ranks, {case.precision}, ZeRO-{case.zero_stage}"
        targets = {"HF Trainer": "≥ 1.5"} if gpus else {}
        Report(f"throughput-{name}", title, comparison, "muster run", targets, notes).write()


def _mfu(folder: Path) -> str:
    (metrics,) = (folder / "runs").glob("[!.]*/metrics.jsonl")
    values = [line["perf/mfu"] for line in map(json.loads, metrics.read_text().splitlines()) if "perf/mfu" in line]
    return f"{np.median(values):.1%}" if values else "not known for this device"
