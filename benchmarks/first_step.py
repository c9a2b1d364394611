"""Seconds from the command to the end of the first optimizer step: 2 ranks, ZeRO-3."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.inputs import Case, make, muster, peer
from benchmarks.measure import Report, interleave

TITLE = "Time to the first optimizer step: 2 ranks, ZeRO-3, fp32"


def main(runs: int) -> None:
    case = Case(steps=2)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make(folder, case)
        comparison = interleave(
            {
                "muster run": lambda: muster(folder, case, "tracking=none").first_step_s,
                "HF Trainer": lambda: peer(folder, case, "hf_trainer").first_step_s,
                "bare DeepSpeed script": lambda: peer(folder, case, "bare_deepspeed").first_step_s,
            },
            runs,
        )
    targets = {"HF Trainer": "≤ 0.6", "bare DeepSpeed script": "≤ 0.8"}
    notes = {"included": "Muster's plan, run folder, data step (cached) and rehearsal; the peers start in torchrun"}
    Report("first_step", TITLE, comparison, "muster run", targets, notes).write()
