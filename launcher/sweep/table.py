"""The points of a sweep as a table: for a terminal, for CSV, for the report. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from launcher.figures.axis import shown
from launcher.sweep.ranking import Criterion, Ranked

Rows = list[tuple[str, ...]]


def best_table(ranked: Sequence[Ranked], criterion: Criterion) -> tuple[tuple[str, ...], Rows]:
    """Columns and rows: place, each parameter, the metric, state, step, run."""
    keys = list(ranked[0].result.values) if ranked else []
    columns = ("", *keys, criterion.metric, "state", "step", "run")
    rows = [
        (
            "" if one.place is None else str(one.place),
            *(shown(one.result.values[key]) for key in keys),
            "" if one.value is None else f"{one.value:.6g}",
            one.result.state,
            str(one.result.step),
            one.result.point.run_id,
        )
        for one in ranked
    ]
    return columns, rows


def csv_table(ranked: Sequence[Ranked]) -> str:
    """Every point with all of its metrics, best first, numbers in full."""
    keys = list(ranked[0].result.values) if ranked else []
    metrics = sorted({name for one in ranked for name in one.result.metrics})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["place", "run", *keys, "state", "step", *metrics, "folder"])
    for one in ranked:
        result = one.result
        numbers = [result.metrics.get(name, "") for name in metrics]
        values = [result.values[key] for key in keys]
        place = "" if one.place is None else one.place
        writer.writerow(
            [place, result.point.run_id, *values, result.state, result.step, *numbers, result.point.run_dir]
        )
    return out.getvalue()
