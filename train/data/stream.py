"""Rows of sets larger than the disk, in an endless order that follows from the seed alone, and places in it.

The files of an epoch come in a shuffled order. Their rows are read in chunks of `data.shuffle_buffer`, and those of a
chunk are shuffled among each other; a chunk does not reach over the end of an epoch. So a place is a few numbers: where
the chunk begins in its file, and how many of its rows were taken. JSON lines are kept as they lie in the file: whoever
needs a row decodes it, and what is skipped never is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.data import sources as files
from train.data.ahead import read_ahead
from train.data.block import BadRow, Block, DataError, Row, decode_line, lines_of
from train.data.order import epoch_order
from train.data.splits import Source

CHUNK_BYTES = 128 << 20
"""A chunk ends here even where it has fewer rows: two of them are held in memory."""

FILES = 0
"""The stream of `epoch_order` that shuffles files; chunk i is shuffled by stream i + 1."""


@dataclass(frozen=True)
class Place:
    """Where a chunk begins: its number in the epoch, the file (in the epoch's order), line and byte of its first row.

    `passed` is the share of the epoch's bytes before it, by whole files where a row's byte is not known.
    """

    epoch: int = 0
    chunk: int = 0
    file: int = 0
    line: int = 1
    offset: int = 0
    passed: float = 0.0


@dataclass(frozen=True)
class Position:
    """A place in the stream: `taken` rows of the chunk are used up, and `used` documents of the row after them.

    `bad` broken rows came before it.
    """

    place: Place = Place()
    taken: int = 0
    used: int = 0
    bad: int = 0


@dataclass(frozen=True)
class StreamRow:
    """One row: a line that begins at byte `offset`, or what a file of another kind held there."""

    file: str
    line: int
    content: bytes | Row | BadRow
    offset: int = 0

    def decoded(self) -> Row | BadRow:
        """The columns of the row, or why there are none."""
        if isinstance(self.content, bytes):
            return decode_line(self.file, self.line, self.offset, self.content)
        return self.content


@dataclass(frozen=True)
class _Chunk:
    place: Place
    rows: list[StreamRow]


class Stream:
    """The rows of some sources, endlessly.

    Args:
        buffer_rows: rows that are shuffled among each other.
    """

    def __init__(self, sources: Sequence[Source], seed: int, buffer_rows: int):
        self._sources, self._seed, self._buffer_rows = list(sources), seed, max(1, buffer_rows)
        self._sizes = [source.size if source.hub is None else 0 for source in sources]
        self._bytes = sum(self._sizes)

    def rows(self, position: Position) -> Generator[tuple[Place, int, StreamRow]]:
        """The rows from a position on: the chunk that each is in, its place in the chunk's shuffled order, and it."""
        skipped = position.taken
        with contextlib.closing(read_ahead(self._chunks(position.place), 1)) as chunks:
            for chunk in chunks:
                place = chunk.place
                order = epoch_order(len(chunk.rows), self._seed, place.epoch, place.chunk + 1)
                for number in range(skipped, len(order)):
                    yield place, number, chunk.rows[int(order[number])]
                skipped = 0

    def _chunks(self, place: Place) -> Iterator[_Chunk]:
        while True:
            empty = True
            for chunk in self._epoch(place):
                empty = False
                yield chunk
            if empty:
                raise DataError(f"{', '.join(source.name for source in self._sources)}: no rows")
            place = Place(epoch=place.epoch + 1)

    def _epoch(self, start: Place) -> Iterator[_Chunk]:
        """The chunks of one epoch from a place on."""
        place, rows, size = start, list[StreamRow](), 0
        for row, row_place in self._rows_of_epoch(start):
            if len(rows) == self._buffer_rows or size >= CHUNK_BYTES:
                yield _Chunk(place, rows)
                place, rows, size = replace(row_place, chunk=place.chunk + 1), [], 0
            if not rows:
                place = replace(row_place, chunk=place.chunk)
            rows.append(row)
            size += _size(row.content)
        if rows:
            yield _Chunk(place, rows)

    def _rows_of_epoch(self, start: Place) -> Iterator[tuple[StreamRow, Place]]:
        order = epoch_order(len(self._sources), self._seed, start.epoch, FILES)
        before = sum(self._sizes[int(index)] for index in order[: start.file])
        for number in range(start.file, len(order)):
            source, size = self._sources[int(order[number])], self._sizes[int(order[number])]
            line, offset = (start.line, start.offset) if number == start.file else (1, 0)
            for row in _rows(source, line, offset):
                if row.line >= line:
                    passed = (before + min(row.offset, size)) / max(1, self._bytes)
                    yield row, Place(start.epoch, 0, number, row.line, row.offset, passed)
            before += size


def _rows(source: Source, line: int, offset: int) -> Iterator[StreamRow]:
    """All rows of a source in its order, from some row at or before `line`; of raw lines none is decoded."""
    for block in _blocks(source, line, offset):
        found: list[Row | BadRow] = [*block.rows, *block.bad]
        for row in sorted(found, key=lambda row: row.line):
            yield StreamRow(block.file, row.line, row)
        for number, start, content in lines_of(block):
            yield StreamRow(block.file, number, content, start)


def _blocks(source: Source, line: int, offset: int) -> Iterator[Block]:
    if source.hub is None:
        return files.blocks(Path(source.name), line, offset)
    return files.hub_blocks(source.name, source.hub.skip(line - 1) if line > 1 else source.hub, line)


def _size(content: Any) -> int:
    """About how many bytes a row takes."""
    if isinstance(content, str | bytes):
        return len(content)
    if isinstance(content, Row):
        return _size(content.columns)
    if isinstance(content, dict):
        return 64 + sum(_size(part) for part in content.values())
    if isinstance(content, list):
        return 64 + sum(_size(part) for part in content)
    return 64
