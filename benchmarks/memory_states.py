"""Model states and buffers of a rank: the plan's formulas and DeepSpeed's estimators against bytes of real engines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine
from tests.dist import harness
from tests.dist.live_bytes import Case, expected, mean, measured, plan_of, write_shape

ROADS = ((0, ""), (1, ""), (2, ""), (3, ""), (1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "all"))
"""Stage, and what is offloaded to the host."""

TYPES = ("llama", "qwen2", "gemma3_text", "phi3", "gpt_neox", "olmo2", "gpt2")
AT_ONCE = 4
PATIENCE_S = 3000


def cases() -> Iterator[Case]:
    """Every road with each precision and method on one and two ranks for Llama; for each further architecture every
    road, with ranks, precision and method taken in turn."""
    for ranks in (1, 2):
        for precision in ("bf16", "fp32"):
            for method in ("full", "lora"):
                for stage, offload in ROADS:
                    yield Case("llama", stage, precision, ranks, offload, method)
    for turn, kind in enumerate(TYPES[1:]):
        for place, (stage, offload) in enumerate(ROADS):
            ranks = (1, 2, 4)[(turn + place) % 3]
            precision = ("bf16", "fp32")[(turn + place // 2) % 2]
            method = ("full", "lora")[(turn + place) % 2 if kind in ("qwen2", "gemma3_text", "phi3") else 0]
            yield Case(kind, stage, precision, ranks, offload, method)


def main(runs: int) -> None:
    """Each case once: nothing in it is timed. What is kept already is not measured again."""
    harness.LIMIT_S = PATIENCE_S
    path = RESULTS / "memory_states.json"
    rows: list[dict[str, Any]] = json.loads(path.read_bytes())["figures"] if path.exists() else []
    done = {row["case"] for row in rows}
    todo = [case for case in cases() if case.name not in done]
    with tempfile.TemporaryDirectory() as work:
        while todo:
            group = [case for case in todo if case.ranks == todo[0].ranks][:AT_ONCE]
            todo = [case for case in todo if case not in group]
            rows += weigh(group, Path(work))
            write(path, rows)
            print("\n".join(line(row) for row in rows[-len(group) :]), flush=True)


def weigh(group: list[Case], work: Path) -> list[dict[str, Any]]:
    """Some cases in one group of ranks."""
    for kind in {case.model_type for case in group}:
        write_shape(work / kind, kind)
    plans = [plan_of(case, work / case.model_type) for case in group]
    [ranks] = harness.launch_each(measured, group[0].ranks, [(plans,)])
    rows = []
    for case, plan, *found in zip(group, plans, *ranks, strict=True):
        held, planned = mean(found), expected(case, work / case.model_type)
        rows.append(
            {
                "case": case.name,
                "parameters": plan.parameters,
                "trained": plan.trainable_parameters,
                "held_bytes": held,
                "planned_bytes": planned,
                "errors": {moment: round(planned[moment] / held[moment] - 1, 5) for moment in held},
                "deepspeed_estimator_bytes": estimator(case, int(plan.parameters or 0)),
            }
        )
    return rows


def estimator(case: Case, parameters: int) -> float | None:
    """What DeepSpeed's own estimator says of a rank, device and host together; None where it has none.

    It has one for stage 2 and one for stage 3, of full fine-tuning in 16 bits; it adds spare room on the host, which is
    left out.
    """
    if case.stage not in (2, 3) or case.precision != "bf16" or case.method != "full":
        return None
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    offload = bool(case.offload)
    if case.stage == 2:
        host, device = estimate_zero2_model_states_mem_needs(parameters, case.ranks, 1, offload, 1.0)
    else:
        host, device, _ = estimate_zero3_model_states_mem_needs(
            parameters, 512 * 160, case.ranks, 1, offload, case.offload == "all", True, 1.0
        )
    return float(device + (host / case.ranks if offload else 0))


def line(row: dict[str, Any]) -> str:
    """A row of the table as Markdown."""
    own = row["deepspeed_estimator_bytes"]
    theirs = f"{own / row['held_bytes']['backward'] - 1:+.0%}" if own else ""
    errors = " | ".join(f"{row['errors'][moment]:+.2%}" for moment in ("idle", "backward", "step"))
    return f"| {row['case']} | {row['held_bytes']['backward'] / 2**20:.1f} | {errors} | {theirs} |"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Keep what is there so far."""
    errors = [abs(error) for row in rows for error in row["errors"].values()]
    theirs = [
        abs(row["deepspeed_estimator_bytes"] / row["held_bytes"]["backward"] - 1)
        for row in rows
        if row["deepspeed_estimator_bytes"]
    ]
    content = {
        "name": "memory_states",
        "title": "Model states and DeepSpeed's buffers of a rank: planned against the tensors of real engines",
        "command": "python -m benchmarks memory_states",
        "machine": machine(),
        "figures": rows,
        "notes": {
            "cases": len(rows),
            "mean absolute error": round(sum(errors) / max(1, len(errors)), 5),
            "largest absolute error": round(max(errors, default=0), 5),
            "mean absolute error of DeepSpeed's estimators": round(sum(theirs) / max(1, len(theirs)), 3),
            "cases that those estimate": len(theirs),
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
