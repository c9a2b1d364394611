"""Model states and buffers of a rank: the plan's formulas and DeepSpeed's estimators against bytes of real engines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine
from tests.dist import harness
from tests.dist.live_bytes import MOMENTS, SHAPES, Case, expected, measured, most, plan_of, subject, write_shape

ROADS = ((0, ""), (1, ""), (2, ""), (3, ""), (1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "all"))
"""Stage, and what is offloaded to the host."""

WAYS = (("bf16", "full"), ("bf16", "lora"), ("fp32", "full"), ("fp32", "lora"))
RANKS = (1, 2, 4)
AT_ONCE = 12
PATIENCE_S = 3000


def cases() -> Iterator[Case]:
    """Every road of each architecture, with ranks, precision and method taken in turn; then for Llama every road with
    each precision and method on each number of ranks."""
    for turn, kind in enumerate(SHAPES):
        for place, (stage, offload) in enumerate(ROADS):
            precision, method = WAYS[(turn + place) % len(WAYS)]
            yield Case(kind, stage, precision, RANKS[(turn + place // 2) % len(RANKS)], offload, method)
    for ranks in RANKS:
        for precision, method in WAYS:
            for stage, offload in ROADS:
                yield Case("llama", stage, precision, ranks, offload, method)


def main(runs: int) -> None:
    """Each case once: nothing in it is timed. What is kept is not measured again, but planned anew."""
    harness.LIMIT_S = PATIENCE_S
    path = RESULTS / "memory_states.json"
    known: list[dict[str, Any]] = json.loads(path.read_bytes())["figures"] if path.exists() else []
    held = {row["case"]: row["held_bytes"] for row in known}
    everything = list(dict.fromkeys(cases()))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for kind in SHAPES:
            write_shape(work / kind, kind)
        rows = [compared(case, work, held[case.name]) for case in everything if case.name in held]
        write(path, rows)
        todo = [case for case in everything if case.name not in held]
        while todo:
            group = [case for case in todo if case.ranks == todo[0].ranks][:AT_ONCE]
            todo = [case for case in todo if case not in group]
            rows += weigh(group, work)
            write(path, rows)
            print("\n".join(line(row) for row in rows[-len(group) :]), flush=True)
    print(json.dumps(summary(rows), indent=2))


def weigh(group: list[Case], work: Path) -> list[dict[str, Any]]:
    """Some cases in one group of ranks; of each the rank that holds most."""
    plans = [plan_of(case, work / case.model_type) for case in group]
    [ranks] = harness.launch_each(measured, group[0].ranks, [(plans,)])
    return [compared(case, work, most(found)) for case, *found in zip(group, *ranks, strict=True)]


def compared(case: Case, work: Path, held: dict[str, int]) -> dict[str, Any]:
    """What a rank held beside what the formulas say."""
    folder = work / case.model_type
    plan, planned, shape = plan_of(case, folder), expected(case, folder), subject(case, folder).shape
    assert shape is not None
    return {
        "case": case.name,
        "model_type": case.model_type,
        "stage": case.stage,
        "offload": case.offload,
        "parameters": plan.parameters,
        "trained": plan.trainable_parameters,
        "held_bytes": held,
        "planned_bytes": {moment: int(planned[moment]) for moment in MOMENTS},
        "errors": {moment: round(planned[moment] / held[moment] - 1, 5) for moment in MOMENTS},
        "peak_error": relative(max(planned.values()), max(held.values())),
        "deepspeed_peak_error": relative(estimator(case, shape.parameters, shape.largest_layer), max(held.values())),
    }


def relative(planned: float | None, held: int) -> float | None:
    """Relative error of what was planned, None where nothing was."""
    return None if planned is None else round(planned / held - 1, 5)


def estimator(case: Case, parameters: int, largest_layer: int) -> float | None:
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
            parameters, largest_layer, case.ranks, 1, offload, case.offload == "all", True, 1.0
        )
    return float(device + (host / case.ranks if offload else 0))


def line(row: dict[str, Any]) -> str:
    """A row of the table as Markdown."""
    theirs = row["deepspeed_peak_error"]
    errors = " | ".join(f"{row['errors'][moment]:+.2%}" for moment in MOMENTS)
    said = "" if theirs is None else f"{theirs:+.0%}"
    return f"| {row['case']} | {max(row['held_bytes'].values()) / 2**20:.1f} | {errors} | {said} |"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Keep what is there so far."""
    content = {
        "name": "memory_states",
        "title": "Model states and DeepSpeed's buffers of a rank: planned against the tensors of real engines",
        "command": "python -m benchmarks memory_states",
        "machine": machine(),
        "figures": rows,
        "notes": summary(rows),
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors of all cases in a few numbers."""
    errors = [abs(error) for row in rows for error in row["errors"].values()]
    theirs = [abs(row["deepspeed_peak_error"]) for row in rows if row["deepspeed_peak_error"] is not None]
    same = [abs(row["peak_error"]) for row in rows if row["deepspeed_peak_error"] is not None]
    return {
        "cases": len(rows),
        "mean absolute error": mean(errors),
        "mean absolute error at the peak": mean([abs(row["peak_error"]) for row in rows]),
        "largest absolute error": round(max(errors, default=0), 5),
        "cases that DeepSpeed's estimators know": len(theirs),
        "mean absolute error of DeepSpeed's estimators at the peak": mean(theirs),
        "mean absolute error of the plan at the peak of the same cases": mean(same),
    }


def mean(errors: list[float]) -> float:
    """The mean, five digits of it."""
    return round(sum(errors) / max(1, len(errors)), 5)
