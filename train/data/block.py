"""Blocks of rows: what a file is handed out in, and what its rows are once decoded.

A block is decoded by whoever works on it, so that workers can decode at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from conf.outcome import Cause


class DataError(Exception):
    """The data cannot be used; the message says where and why."""

    cause = Cause.data


class RowError(Exception):
    """A row cannot be used; the message is the reason."""

    empty = False


class EmptyRowError(RowError):
    """A row has no text, or no answer."""

    empty = True


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used. `line` counts from 1: lines of JSON lines and CSV, rows of arrays and Parquet.

    `empty` rows are whole but for a text or an answer; `data.clean.drop_empty` leaves them out.
    """

    file: str
    line: int
    reason: str
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """The columns of one row."""

    line: int
    columns: dict[str, Any]


@dataclass(frozen=True)
class Block:
    """A part of a file: either `raw` JSON lines, with the number and byte offset of the first, or decoded rows."""

    file: str
    done: int
    first_line: int = 0
    offset: int = 0
    raw: bytes = b""
    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def decode(block: Block) -> tuple[list[Row], list[BadRow]]:
    """The good and the broken rows of a block, each in the order of the file. Blank lines are no rows."""
    rows, bad = list(block.rows), list(block.bad)
    for number, offset, line in lines_of(block):
        found = decode_line(block.file, number, offset, line)
        if isinstance(found, Row):
            rows.append(found)
        else:
            bad.append(found)
    return rows, bad


def lines_of(block: Block) -> Iterator[tuple[int, int, bytes]]:
    """Number, byte offset and content of each line in the raw part of a block that is not blank."""
    offset = block.offset
    for number, line in enumerate(block.raw.split(b"\n") if block.raw else [], block.first_line):
        if line.strip():
            yield number, offset, line
        offset += len(line) + 1


def decode_line(file: str, number: int, offset: int, line: bytes) -> Row | BadRow:
    """The row in a line of JSON lines that begins at byte `offset`."""
    try:
        columns = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadRow(file, number, encoding_fault(line, offset) or f"not JSON: {error}")
    return Row(number, columns) if isinstance(columns, dict) else no_object(file, number, columns)


def no_object(file: str, line: int, value: Any) -> BadRow:
    """The word on a row that is no object with columns."""
    return BadRow(file, line, f"{kind_of(value)} where an object with columns is expected")


def encoding_fault(line: bytes, offset: int) -> str | None:
    """The first byte that is not UTF-8, by its offset in the file where `line` begins at `offset`; None if all are."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02x} at offset {offset + error.start} is not UTF-8"
    return None


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(type(value), type(value).__name__)
