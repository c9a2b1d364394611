"""Rows counted as they are parsed, and what a plan wants to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT_ROWS = 3
SAMPLED_LENGTHS = 512


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read: its line (from 1) and why."""

    line: int
    reason: str


class Survey:
    """Counts rows as they are parsed, and keeps what a plan wants to know of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, None] = {}
        self.first_rows: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        self.broken: BrokenRow | None = None
        self.broken_rows = 0

    def add(self, row: object) -> None:
        if not isinstance(row, dict):
            raise ValueError(f"a row has to be an object with columns, not {type(row).__name__}")
        self.rows += 1
        if len(self.lengths) < SAMPLED_LENGTHS:
            self.columns.update(dict.fromkeys(row))
            self.lengths.append(characters(row))
        if len(self.first_rows) < KEPT_ROWS:
            self.first_rows.append(row)

    def refuse(self, line: int, reason: str) -> None:
        self.broken_rows += 1
        self.broken = self.broken or BrokenRow(line, reason)


def characters(value: object) -> int:
    """Characters of all text in a row, however deep."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(characters(part) for part in value.values())
    if isinstance(value, list):
        return sum(characters(part) for part in value)
    return 0
