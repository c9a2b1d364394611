"""The way that `parallel=auto` chooses, against every way of a small space, run for real.

Gradient checkpointing is given as off; the stages and micro batches are all that are left. Each way trains the same
tiny model for a few steps; what a step took and what the ranks held is read from its events.
`auto` is asked before anything was measured, and again with what the runs have left in the ledger.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.inputs import BIN, Case, make, muster, overrides
from benchmarks.measure import RESULTS, machine

CASE = Case(steps=9, global_batch_size=8, uneven=True, mean_length=160, max_length=512)
STAGES, MICROS = (0, 1, 2, 3), (1, 2, 4)
CHOSEN = ("parallel.zero_stage", "train.per_device_train_batch_size")


@dataclass(frozen=True)
class Way:
    """One way of computing the case."""

    stage: int
    micro: int

    @property
    def case(self) -> Case:
        return replace(CASE, zero_stage=self.stage, micro_batch_size=self.micro)

    def __str__(self) -> str:
        return f"zero{self.stage}, micro {self.micro}"


WAYS = [Way(*values) for values in itertools.product(STAGES, MICROS)]


def main(runs: int) -> None:
    """Every way `runs` times in turn, `auto` before and after."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make(folder, CASE)
        more = ["tracking=none", "data.packing=none", f"cluster.measurements={folder / 'measured'}"]
        before = chosen(folder, more)
        found: dict[Way, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(runs):
            for way in WAYS:
                muster(folder, way.case, *more)
                found[way].append(measured(folder))
                print(f"{way}: {found[way][-1]}", flush=True)
        after = chosen(folder, more)
    write(found, before, after)


def chosen(folder: Path, more: list[str]) -> Way:
    """What `parallel=auto` chooses within the space, by the plan of the same words."""
    words = [word for word in overrides(folder, CASE, *more) if word.partition("=")[0] not in (*CHOSEN, "parallel")]
    command = [str(BIN / "muster"), "plan", *words, "parallel=auto", "--json"]
    plan: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[
        "plan"
    ]
    keys = plan["choice"]["keys"]
    return Way(*(keys[key] for key in CHOSEN))


def measured(folder: Path) -> dict[str, float]:
    """Seconds of a step and bytes of the ranks of the run in the folder, each with what its plan predicted."""
    (events,) = (folder / "runs").glob("[!.]*/events.jsonl")
    lines = {line["event"]: line for line in map(json.loads, events.read_text().splitlines())}
    time, memory = lines["time_measured"], lines["memory_measured"]
    return {
        "step_s": time["measured"],
        "predicted_step_s": time["predicted"],
        "memory": memory["measured"],
        "predicted_memory": memory["predicted"],
    }


def write(found: dict[Way, list[dict[str, float]]], before: Way, after: Way) -> None:
    """The table and its JSON."""
    step = {way: statistics.median(one["step_s"] for one in values) for way, values in found.items()}
    best = min(step, key=step.__getitem__)
    rows = []
    for way, values in sorted(found.items(), key=lambda pair: step[pair[0]]):
        first = values[0]  # nothing was learned before the first round but from the ways before it
        rows.append(
            {
                "way": str(way),
                "step_s": [one["step_s"] for one in values],
                "times_the_best": step[way] / step[best],
                "memory_to_predicted": first["memory"] / first["predicted_memory"],
                "step_to_predicted": [one["step_s"] / one["predicted_step_s"] for one in values],
            }
        )
        print(f"| {way} | {step[way]:.3f} | {step[way] / step[best]:.2f} | {rows[-1]['memory_to_predicted']:.2f} |")
    result = {
        "name": "auto",
        "title": "parallel=auto against every way of a small space",
        "command": "python -m benchmarks auto",
        "machine": machine(),
        "best": str(best),
        "chosen before anything was measured": str(before),
        "chosen after": str(after),
        "speed of the choice to the best, before": step[best] / step[before] if before in step else None,
        "speed of the choice to the best, after": step[best] / step[after] if after in step else None,
        "target": "≥ 0.95",
        "figures": rows,
    }
    (RESULTS / "auto.json").write_text(json.dumps(result, indent=2) + "\n")
    print({key: value for key, value in result.items() if key != "figures"})
