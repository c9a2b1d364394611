"""How far plans of memory are off, as Markdown: the tables of docs/planning.md, from what the benchmarks kept.

`python -m benchmarks.tables` writes them into the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.measure import RESULTS

PAGE = RESULTS.parents[1] / "docs" / "planning.md"
ROADS = {"": "", "optimizer": ", optimizer on the host", "all": ", optimizer and weights on the host"}
MOMENTS = {"idle": "between steps", "backward": "forward, backward", "step": "step"}
Row = Mapping[str, Any]


def states_table() -> str:
    """Mean absolute errors of model states and buffers by stage and offload, and of DeepSpeed's own estimators."""
    figures = _figures("memory_states")
    lines = [
        _cells("ZeRO", "cases", *MOMENTS.values(), "largest", "DeepSpeed's estimator"),
        "|---|---|---|---|---|---|---|",
    ]
    for stage, offload in sorted({(row["stage"], row["offload"]) for row in figures}, key=_order):
        rows = [row for row in figures if (row["stage"], row["offload"]) == (stage, offload)]
        errors = [_mean(row["errors"][moment] for row in rows) for moment in MOMENTS]
        largest = max(abs(error) for row in rows for error in row["errors"].values())
        theirs = [row["deepspeed_peak_error"] for row in rows if row["deepspeed_peak_error"] is not None]
        said = _percent(_mean(theirs)) if theirs else "has none"
        lines.append(_cells(f"{stage}{ROADS[offload]}", len(rows), *map(_percent, (*errors, largest)), said))
    return "\n".join(lines)


def activations_table() -> str:
    """Activations of each shape, in GiB as torch's tracker counts them, and the formulas' error."""
    figures = _figures("activations")
    lines = [_cells("model", "all kept, GiB", "error", "checkpointed, GiB", "error"), "|---|---|---|---|---|"]
    for model in dict.fromkeys(row["model"] for row in figures):
        by_way = {row["gradient_checkpointing"]: row for row in figures if row["model"] == model}
        cells = [cell for way in (False, True) for cell in _tracked(by_way.get(way))]
        lines.append(_cells(model, *cells))
    return "\n".join(lines)


def peaks_table() -> str:
    """Peaks of torch's allocated memory on a GPU beside what plans said, in GiB."""
    lines = [_cells("configuration", "moment", "planned, GiB", "measured, GiB", "error"), "|---|---|---|---|---|"]
    for row in _figures("gpu_peaks"):
        figures = (f"{row['predicted_gib']:.1f}", f"{row['measured_gib']:.1f}", f"{row['error']:+.1%}")
        model, tokens, *words = row["words"].split()
        named = " ".join([f"{model}, {tokens} tokens", *(f"`{word}`" for word in words)])
        lines.append(_cells(named, row["moment"], *figures))
    return "\n".join(lines)


def _tracked(row: Row | None) -> tuple[str, str]:
    return ("", "") if row is None else (f"{row['tracked_bytes'] / 2**30:.1f}", f"{row['error']:+.1%}")


def _figures(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_bytes())["figures"]
    return rows


def _order(road: tuple[int, str]) -> tuple[int, int]:
    return list(ROADS).index(road[1]), road[0]


def _mean(errors: Iterable[float]) -> float:
    found = [abs(error) for error in errors]
    return sum(found) / len(found)


def _percent(error: float) -> str:
    return f"{error:.1%}"


def _cells(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def write_page() -> None:
    """The tables in the page as they are now, each in the place of the one with the same head."""
    page = PAGE.read_text()
    for table in (states_table(), activations_table(), peaks_table()):
        head = table.splitlines()[0]
        before, _, after = page.partition(head)
        rest = after.lstrip("\n").splitlines(keepends=True)
        kept = next((place for place, line in enumerate(rest) if not line.startswith("|")), len(rest))
        page = f"{before}{table}\n{''.join(rest[kept:])}"
    PAGE.write_text(page)


if __name__ == "__main__":
    write_page()
