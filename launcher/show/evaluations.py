"""A run's evaluations for people: a table of metrics before and after, the best, where predictions are."""

from __future__ import annotations

from collections.abc import Mapping

from conf.layout import RunFolder
from launcher.runs.evaluations import SPLITS, Best, Evaluations, ordered, read_evaluations


def evaluation_lines(folder: RunFolder) -> list[str]:
    """The first and the last evaluation of each split, side by side; nothing where there was none."""
    found = read_evaluations(folder)
    rows = metric_rows(found)
    if not rows:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["evaluation"]
    lines += [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [f"  best: {best_words(found.best)}"] if found.best else []
    return lines + [f"  {text}" for text in found.warnings]


def metric_rows(found: Evaluations) -> list[tuple[str, ...]]:
    """A heading, then a row a metric: what it was at the first evaluation of each split and is in the end."""
    splits = [name for name in SPLITS if found.splits.get(name)]
    ends = {name: _ends(found.splits[name], found.handed_back) for name in splits}
    names = ordered(name for split in splits for values in found.splits[split].values() for name in values)
    if not names:
        return []
    headings = [f"{split}{_steps(ends[split])}" for split in splits]
    return [
        ("", *headings),
        *((name, *(_change(found.splits[split], ends[split], name) for split in splits)) for name in names),
    ]


def best_words(best: Best) -> str:
    """The best evaluation: `step 120, loss 1.234`."""
    return f"step {best.step}, {best.metric} {best.value:.5g}"


def prediction_rows(folder: RunFolder) -> list[tuple[str, str]]:
    """Where predictions are, for those splits that have them."""
    there = [path for path in (folder.predictions(split) for split in SPLITS) if path.is_file()]
    return [("predictions" if index == 0 else "", str(path)) for index, path in enumerate(there)]


def _ends(values: Mapping[int, object], handed_back: int | None) -> tuple[int, ...]:
    """The first step and the one that is handed back or was evaluated last; one where they are the same."""
    steps = list(values)
    last = handed_back if handed_back is not None and handed_back in values else steps[-1]
    return tuple(dict.fromkeys((steps[0], last)))


def _steps(ends: tuple[int, ...]) -> str:
    return f", step {' → '.join(map(str, ends))}" if ends != (0,) else ""


def _change(values: Mapping[int, dict[str, float]], ends: tuple[int, ...], name: str) -> str:
    return " → ".join(f"{values[step][name]:.5g}" for step in ends if name in values[step])
