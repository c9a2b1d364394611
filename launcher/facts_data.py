"""What is known of data files before a plan: size, rows, columns, the first broken row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read: its line (from 1) and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class DataFile:
    """One file of `data.*_file`, as it lies on disk.

    `rows` is None where counting would need a heavy library (Parquet without pyarrow); `rows_estimated` says that the
    number was extrapolated from the head of a large file. `error` is why the file cannot be used at all, or empty.
    """

    key: str
    given: str
    path: str
    size: int = 0
    rows: int | None = None
    rows_estimated: bool = False
    columns: tuple[str, ...] = ()
    first_rows: tuple[dict[str, Any], ...] = ()
    mean_characters: float = 0.0
    broken: BrokenRow | None = None
    error: str = ""
    notes: tuple[str, ...] = field(default=())
