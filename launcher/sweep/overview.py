"""How the points of a sweep stand, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.runs.standing import Standing, stand
from launcher.show import units
from launcher.sweep.record import SweptPoint
from launcher.sweep.results import NOT_STARTED
from slurm.parse import Job

COLUMNS = ("point", "state", "step", "loss", "eval/loss", "ETA", "job", "reason")
NOT_MADE = NOT_STARTED
"""State of a point whose run folder was never made: the command broke off before."""

EVAL_LOSS = "eval/loss"


def standings(points: Sequence[SweptPoint], jobs: Mapping[str, Job] | None) -> list[Standing | None]:
    """How each point stands; None where it has no run folder yet, or one that cannot be read."""
    return [_standing(point, jobs) for point in points]


def table_rows(points: Sequence[SweptPoint], jobs: Mapping[str, Job] | None) -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for each point."""
    found = standings(points, jobs)
    return [row_of(point, standing) for point, standing in zip(points, found, strict=True)]


def row_of(point: SweptPoint, standing: Standing | None) -> tuple[str, ...]:
    """A row of `COLUMNS`."""
    if standing is None:
        return (point.label, NOT_MADE, *[""] * (len(COLUMNS) - 2))
    total = f"/{standing.total_steps}" if standing.total_steps else ""
    evaluated = standing.outcome.metrics.get(EVAL_LOSS) if standing.outcome else None
    reason = standing.reason.splitlines()[0] if standing.reason and standing.state.value != "done" else ""
    return (
        point.label,
        standing.state.value,
        f"{standing.step}{total}",
        f"{standing.loss:.4f}" if standing.loss is not None else "",
        f"{evaluated:.4f}" if evaluated is not None else "",
        units.duration(standing.eta_s) if standing.eta_s is not None else "",
        standing.job.removeprefix("slurm:"),
        reason,
    )


def json_of(point: SweptPoint, standing: Standing | None) -> dict[str, Any]:
    """A point for scripts."""
    own: dict[str, Any] = {"point": point.overrides, "id": point.run_id, "folder": point.run_dir}
    if standing is None:
        return {**own, "state": NOT_MADE, "live": False}
    metrics = standing.outcome.metrics if standing.outcome else {}
    return {**standing.as_json(), **own, "metrics": metrics}


def counts_text(found: Sequence[Standing | None]) -> str:
    """How many points are in which state: `4 done, 1 failed, 1 running`."""
    counts = Counter(standing.state.value if standing is not None else NOT_MADE for standing in found)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _standing(point: SweptPoint, jobs: Mapping[str, Job] | None) -> Standing | None:
    try:
        return stand(point.folder, jobs)
    except (OSError, ValueError):
        return None
