"""The footer of a Parquet file: number of rows and names of columns, without a Parquet library.

The footer is a FileMetaData struct in Thrift's compact protocol (github.com/apache/parquet-format, parquet.thrift):
field 2 is the flattened schema tree, field 3 the number of rows. In a SchemaElement field 4 is the name, field 5 the
number of children.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MAGIC = b"PAR1"
LARGEST_FOOTER = 64 << 20

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


def read_footer(path: Path) -> tuple[int, tuple[str, ...]]:
    """Number of rows and names of the top-level columns.

    Raises:
        ValueError: the file is not Parquet, or is cut off.
        OSError: as the file system says.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError("is not Parquet: its first bytes are not PAR1")
        file.seek(-8, 2)
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or not 0 < length <= min(LARGEST_FOOTER, path.stat().st_size - 12):
            raise ValueError("is not whole: its last bytes are not a Parquet footer")
        file.seek(-8 - length, 2)
        footer = file.read(length)
    try:
        metadata, _ = _struct(footer, 0)
        return int(metadata[3]), _top_level(metadata[2])
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("has a Parquet footer that cannot be read") from error


def _top_level(elements: list[dict[int, Any]]) -> tuple[str, ...]:
    names: list[str] = []
    position = 1
    for _ in range(int(elements[0].get(5, 0))):
        names.append(elements[position][4].decode())
        position = _after(elements, position)
    return tuple(names)


def _after(elements: list[dict[int, Any]], position: int) -> int:
    """Index after an element and all its children."""
    children = int(elements[position].get(5, 0))
    position += 1
    for _ in range(children):
        position = _after(elements, position)
    return position


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while data[at]:
        kind, delta = data[at] & 15, data[at] >> 4
        at += 1
        if delta:
            number += delta
        else:
            number, at = _integer(data, at)
        fields[number], at = _value(data, at, kind)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return data[at], at + 1
    if kind in (_I16, _I32, _I64):
        return _integer(data, at)
    if kind == _DOUBLE:
        return data[at : at + 8], at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return data[at : at + length], at + length
    if kind in (_LIST, _SET):
        return _list(data, at)
    if kind == _STRUCT:
        return _struct(data, at)
    raise KeyError(kind)


def _list(data: bytes, at: int) -> tuple[list[Any], int]:
    kind, count = data[at] & 15, data[at] >> 4
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    values: list[Any] = []
    for _ in range(count):
        if kind in (_TRUE, _FALSE):
            value, at = data[at] == _TRUE, at + 1
        else:
            value, at = _value(data, at, kind)
        values.append(value)
    return values, at
