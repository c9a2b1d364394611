"""What Muster adds to a step: its loop with metrics, W&B offline and the stop vote, against a bare DeepSpeed loop."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.inputs import Case, largest_difference, make, muster, peer
from benchmarks.measure import Report, interleave

TITLE = "Seconds of a step: 2 ranks, ZeRO-3, fp32, padded, same documents"


def main(runs: int) -> None:
    case = Case(steps=40)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make(folder, case)

        def ours() -> float:
            return muster(folder, case, "data.packing=none", "tracking=wandb", "tracking.mode=offline").step_s

        comparison = interleave(
            {
                "muster run, W&B offline": ours,
                "bare DeepSpeed script": lambda: peer(folder, case, "bare_deepspeed").step_s,
                "HF Trainer": lambda: peer(folder, case, "hf_trainer").step_s,
            },
            runs,
        )
        difference = largest_difference(
            muster(folder, case, "data.packing=none", "tracking=none"), peer(folder, case, "bare_deepspeed")
        )
    notes = {"largest relative difference in loss to the bare script, 40 steps": f"{difference:.1e}"}
    targets = {"bare DeepSpeed script": "≤ 1.02"}
    Report("step_overhead", TITLE, comparison, "muster run, W&B offline", targets, notes).write()
