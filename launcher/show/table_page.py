"""How `muster plan --table` looks: for each length the shardings over the micro batches, peak and step. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.choice.table import Cell
from launcher.show import time_page, units

LEGEND = "a rank's peak and a step's time; `+` what is missing to the likely peak; `?` perhaps not"


def table_lines(cells: Sequence[Cell]) -> list[str]:
    """A table for each length."""
    found: list[str] = [LEGEND]
    for length in dict.fromkeys(cell.length for cell in cells):
        own = [cell for cell in cells if cell.length == length]
        found += ["", *_one(own, f"{length:,} tokens")]
    return found


def _one(cells: Sequence[Cell], title: str) -> list[str]:
    micros = list(dict.fromkeys(sorted(cell.micro for cell in cells)))
    shown = {(cell.sharding, cell.micro): text(cell) for cell in cells}
    rows = [[title, *(f"micro {micro}" for micro in micros)]]
    shardings = dict.fromkeys(cell.sharding for cell in cells)
    rows += [[sharding, *(shown.get((sharding, micro), "") for micro in micros)] for sharding in shardings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def text(cell: Cell) -> str:
    """`38.4 GiB 0.7 s`; `+12.1 GiB` where it does not fit."""
    if cell.missing:
        return f"+{units.size(cell.missing)}"
    doubt = "?" if cell.fits is False else ""
    return f"{units.size(cell.peak)}{doubt} {time_page.seconds(cell.step_s)}"
