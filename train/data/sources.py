"""Rows from files and hub data sets, with the exact place and reason of every broken one.

JSON lines (`.jsonl`, `.json`), a JSON array (`.json`), CSV with a header and Parquet; JSON and CSV also gzipped. The
order of rows is the file's.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from train.data.block import BadRow, Block, DataError, Row, encoding_fault, no_object

BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 2000

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def blocks(path: Path, line: int = 1, offset: int = 0) -> Iterator[Block]:
    """The blocks of a file; `done` is the number of its bytes read so far.

    Args:
        line, offset: go on from this row, which begins at this byte of the content. JSON lines begin there, Parquet
            with the row group, other files from their beginning, so that earlier rows can come.

    Raises:
        DataError: the file is missing, of an unknown kind, or broken as a whole.
    """
    suffix = data_suffix(path)
    try:
        if suffix == ".parquet":
            yield from _parquet(path, line - 1)
        elif suffix == ".csv":
            yield from _csv(path)
        else:
            yield from _json(path, line, offset)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: {error}") from error


def data_suffix(path: Path) -> str:
    """`.jsonl`, `.json`, `.csv` or `.parquet`, whatever is gzipped.

    Raises:
        DataError: it is none of them.
    """
    name = path.name.lower().removesuffix(".gz")
    for suffix in SUFFIXES:
        if name.endswith(suffix) and not (suffix == ".parquet" and path.name.lower().endswith(".gz")):
            return suffix
    raise DataError(f"{path}: not a kind of data file that is known: {', '.join(SUFFIXES)} (.gz too, but for .parquet)")


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _open(path: Path) -> tuple[BinaryIO, BinaryIO]:
    """The decompressed stream, and the file below it, whose position tells how much was read."""
    raw = path.open("rb")
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw)), raw
    return raw, raw


def _json(path: Path, line: int, offset: int) -> Iterator[Block]:
    stream, raw = _open(path)
    with raw, stream:
        stream.seek(offset)  # of gzip by reading up to there
        rest = stream.read(BLOCK_BYTES)
        if offset == 0:
            offset = 3 if rest.startswith(b"\xef\xbb\xbf") else 0
            rest, line = rest[offset:], 1
            if rest.lstrip()[:1] == b"[":
                yield _array(path, rest + stream.read(), raw.tell())
                return
        while True:
            end = rest.rfind(b"\n") + 1
            more = stream.read(BLOCK_BYTES)
            if not more:
                yield Block(str(path), raw.tell(), line, offset, rest)
                return
            if end:
                yield Block(str(path), raw.tell(), line, offset, rest[: end - 1])
                line, offset, rest = line + rest.count(b"\n", 0, end), offset + end, rest[end:]
            rest += more


def _array(path: Path, content: bytes, done: int) -> Block:
    try:
        values = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: {encoding_fault(content, 0) or f'not a JSON array: {error}'}") from error
    rows = [Row(number, value) for number, value in enumerate(values, 1) if isinstance(value, dict)]
    bad = [no_object(str(path), number, value) for number, value in enumerate(values, 1) if not isinstance(value, dict)]
    return Block(str(path), done, rows=rows, bad=bad)


def _csv(path: Path) -> Iterator[Block]:
    csv.field_size_limit(1 << 30)
    stream, raw = _open(path)
    faults: dict[int, str] = {}

    def lines() -> Iterator[str]:
        offset = 0
        for number, line in enumerate(stream, 1):
            if fault := encoding_fault(line, offset):
                faults[number] = fault
            offset += len(line)
            text = line.decode("utf-8", errors="replace")
            yield text.removeprefix("\ufeff") if number == 1 else text

    with raw, stream:
        reader = csv.reader(lines(), strict=True)
        header = next(reader, None)
        if not header or 1 in faults:
            raise DataError(f"{path}: {faults.get(1, 'empty, without a header')}")
        if len(set(header)) < len(header):
            raise DataError(f"{path}: two columns of the header have one name: {', '.join(header)}")
        found = _csv_rows(reader, header, faults, str(path))
        while part := list(itertools.islice(found, BLOCK_ROWS)):
            rows = [row for row in part if isinstance(row, Row)]
            yield Block(str(path), raw.tell(), rows=rows, bad=[row for row in part if isinstance(row, BadRow)])


def _csv_rows(reader: Any, header: list[str], faults: dict[int, str], file: str) -> Iterator[Row | BadRow]:
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(file, line, f"not CSV: {error}")
            continue
        fault = next((faults[number] for number in range(line, reader.line_num + 1) if number in faults), None)
        if fault is not None:
            yield BadRow(file, line, fault)
        elif len(fields) == len(header):
            yield Row(line, dict(zip(header, fields, strict=True)))
        elif fields:
            yield BadRow(file, line, f"{len(fields)} fields, the header has {len(header)}")


def _parquet(path: Path, skipped: int = 0) -> Iterator[Block]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            total, first, group = max(1, file.metadata.num_rows), 1, 0
            while group < file.num_row_groups and first + file.metadata.row_group(group).num_rows <= skipped + 1:
                first += file.metadata.row_group(group).num_rows
                group += 1
            for batch in file.iter_batches(BLOCK_ROWS, row_groups=range(group, file.num_row_groups)):
                rows = [Row(number, columns) for number, columns in enumerate(batch.to_pylist(), first)]
                first += len(rows)
                yield Block(str(path), path.stat().st_size * (first - 1) // total, rows=rows)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: {error}") from error


def hub_blocks(name: str, data: Iterable[dict[str, Any]], line: int = 1) -> Iterator[Block]:
    """The blocks of a loaded hub data set, whose first row has the number `line`; `done` counts its rows."""
    numbered = (Row(number, columns) for number, columns in enumerate(data, line))
    while rows := list(itertools.islice(numbered, BLOCK_ROWS)):
        yield Block(name, rows[-1].line, rows=rows)
