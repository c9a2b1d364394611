"""Rows counted as they are parsed, and what a plan wants to know of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from conf.label_names import label_name

KEPT_ROWS = 3
SAMPLED_LENGTHS = 512
MOST_VALUES = 4096
"""Different values beyond which a column is text rather than labels, and its values are no longer kept."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read: its line (from 1) and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class ColumnFault:
    """Rows in which a column that the first row has is no text: the first one's line, why, and how many there are.

    `empty` ones are text without a letter.
    """

    line: int
    reason: str
    count: int
    empty: bool


@dataclass(frozen=True)
class Seen:
    """A value of a column: its first line (from 1), and how many rows have it."""

    line: int
    count: int


class Survey:
    """Counts rows as they are parsed, and keeps what a plan wants to know of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, None] = {}
        self.first_rows: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        self.broken: BrokenRow | None = None
        self.broken_rows = 0
        self._faults: dict[tuple[str, bool], ColumnFault] = {}
        self._values: dict[str, dict[str, list[int]] | None] = {}

    def add(self, row: object, line: int) -> None:
        if not isinstance(row, dict):
            raise ValueError(f"a row has to be an object with columns, not {type(row).__name__}")
        self.rows += 1
        if len(self.lengths) < SAMPLED_LENGTHS:
            self.columns.update(dict.fromkeys(row))
            self.lengths.append(characters(row))
        if len(self.first_rows) < KEPT_ROWS:
            self.first_rows.append(row)
        for column in self.first_rows[0]:
            self._look(column, row, line)
        for column, value in row.items():
            self._count(column, value, line)

    def _look(self, column: str, row: dict[str, Any], line: int) -> None:
        value = row.get(column)
        if isinstance(value, str) and value and not value.isspace():
            return
        empty = isinstance(value, str)
        known = self._faults.get((column, empty))
        if known is None:
            kind = "empty" if empty else f"{type(value).__name__}, text is expected"
            reason = f"column {column!r} is {kind}" if column in row else f"no column {column!r}"
            known = ColumnFault(line, reason, 0, empty)
        self._faults[column, empty] = replace(known, count=known.count + 1)

    def _count(self, column: str, value: object, line: int) -> None:
        known = self._values.setdefault(column, {})
        if known is None:
            return
        try:
            name = label_name(value)
        except TypeError:  # lists and objects are no labels of this kind
            self._values[column] = None
            return
        if name:
            known.setdefault(name, [line, 0])[1] += 1
        if len(known) > MOST_VALUES:
            self._values[column] = None

    @property
    def values(self) -> dict[str, dict[str, Seen]]:
        """By column, of those with text and numbers: each value, as a label is spelled."""
        kept = {column: each for column, each in self._values.items() if each}
        return {column: {name: Seen(*seen) for name, seen in each.items()} for column, each in kept.items()}

    @property
    def faults(self) -> dict[str, tuple[ColumnFault, ...]]:
        """By column: rows in which it is no text."""
        columns = dict.fromkeys(column for column, _ in self._faults)
        return {name: tuple(fault for (of, _), fault in self._faults.items() if of == name) for name in columns}

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


def not_utf8(line: bytes, offset: int) -> str | None:
    """The first byte of a line that is not UTF-8, by its offset in the file, and what may help; None if all are."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} is not UTF-8"
        return f"{place}; of Latin-1: iconv -f LATIN1 -t UTF-8 OLD > NEW"
    return None


def without_mark(head: bytes) -> bytes:
    """The beginning of a file without UTF-8's byte order mark.

    Raises:
        ValueError: it begins with the mark of another encoding.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("is UTF-16, and data is UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    return head.removeprefix(b"\xef\xbb\xbf")
