"""Documents of uneven length: packed with attention per document, against padding and against flattening."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.inputs import Case, largest_difference, make, muster, peer
from benchmarks.measure import Report, interleave

TITLE = "Seconds of a step on documents of uneven length: 2 ranks, ZeRO-2, fp32, 64 documents"


def main(runs: int) -> None:
    case = Case(
        zero_stage=2,
        global_batch_size=64,
        micro_batch_size=8,
        mean_length=96,
        max_length=768,
        uneven=True,
        layers=2,
        steps=9,
    )
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make(folder, case)
        comparison = interleave(
            {
                "muster run, packing=exact": lambda: muster(folder, case, "tracking=none").step_s,
                "bare DeepSpeed script, padded": lambda: peer(folder, case, "bare_deepspeed").step_s,
                "bare DeepSpeed script, HF flattening": lambda: (
                    peer(folder, case, "bare_deepspeed", "--layout=flattening").step_s
                ),
            },
            runs,
        )
        ours = muster(folder, case, "tracking=none")
        difference = largest_difference(ours, peer(folder, case, "bare_deepspeed"))
    targets = {"bare DeepSpeed script, padded": "≤ 0.33", "bare DeepSpeed script, HF flattening": "≤ 0.5"}
    notes = {"largest relative difference in loss to the padded script, 9 steps": f"{difference:.1e}"}
    Report("packing", TITLE, comparison, "muster run, packing=exact", targets, notes).write()
