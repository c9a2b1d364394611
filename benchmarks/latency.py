"""How long a person waits for the command line: help and a plan, against the launchers they know."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Report, interleave, seconds_of

TITLE = "Command line: seconds of the whole process"


def main(runs: int) -> None:
    bin_folder = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)

        def command(*words: str) -> float:
            return seconds_of([str(bin_folder / words[0]), *words[1:]], cwd=folder)

        comparison = interleave(
            {
                "muster --help": lambda: command("muster", "--help"),
                "muster plan": lambda: command("muster", "plan", "experiment=demo"),
                "torchrun -h": lambda: command("torchrun", "-h"),
                "accelerate launch -h": lambda: command("accelerate", "launch", "-h"),
                "deepspeed -h": lambda: command("deepspeed", "-h"),
            },
            runs,
        )
    targets = {"muster --help": "≤ 0.15 s", "muster plan": "≤ 0.4 s"}
    Report("latency", TITLE, comparison, "muster --help", targets).write()
