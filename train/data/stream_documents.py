"""Documents of a stream, the same on every rank, and the position after each portion of them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from conf.schema import DataConfig
from train.data.block import BadRow, DataError
from train.data.documents import Document
from train.data.encode import bad_rows_in_words
from train.data.stream import Place, Position, Stream, StreamRow
from train.data.stream_share import Outcome, Share, encode_share, failed, outcomes
from train.data.tokenize import Encoder

Exchange = Callable[[Share], list[Share]]
"""A collective: what every rank gives, in order of ranks, on every rank. It is called from a thread."""

FRUITLESS_ROWS = 100_000
"""So many rows without a document among them end the run: what is in the files is not what was meant."""


@dataclass(frozen=True)
class Portion:
    """Documents, the broken rows among those they come from, and the position after them."""

    documents: list[Document]
    bad: list[BadRow]
    position: Position


class StreamDocuments:
    """Takes documents from a stream in its order; every rank takes the same, and tokenises its share of the rows.

    Args:
        start: where to begin.
    """

    def __init__(
        self,
        stream: Stream,
        encoder: Encoder,
        data: DataConfig,
        rank: int,
        world: int,
        exchange: Exchange,
        start: Position,
    ):
        self._rows = stream.rows(start)
        self._encoder, self._data, self._exchange = encoder, data, exchange
        self._rank, self._world = rank, world
        self._position = start
        self._ready: deque[tuple[Place, int, Outcome]] = deque()
        self._fruitless = 0

    def take(self, count: int) -> Portion:
        """The next `count` documents; a collective.

        Raises:
            DataError: more rows are broken than `data.max_bad_rows`, a rule that bears no exception is broken, or there
                are no documents.
        """
        documents: list[Document] = []
        bad: list[BadRow] = []
        while len(documents) < count:
            if not self._ready:
                self._read(max(count - len(documents), count // 8))
            place, number, outcome = self._ready[0]
            used = self._position.used
            whole = [each for each in outcome.documents if len(each.ids) >= self._data.clean.min_length]
            found = whole[used : used + count - len(documents)]
            documents += found
            if used + len(found) < len(whole):
                self._position = Position(place, number, used + len(found), self._position.bad)
                continue
            self._ready.popleft()
            self._fruitless = 0 if whole else self._fruitless + 1
            broken = self._broken(outcome)
            bad += broken
            self._position = Position(place, number + 1, 0, self._position.bad + len(broken))
            self._check(bad)
        return Portion(documents, bad, self._position)

    def close(self) -> None:
        """Stop reading ahead."""
        self._rows.close()

    def _read(self, count: int) -> None:
        """Tokenise the next `count` rows, this rank its share of them."""
        rows: list[tuple[Place, int, StreamRow]] = []
        try:
            rows = list(itertools.islice(self._rows, count))
            share = encode_share(self._encoder, [row for _, _, row in rows[self._rank :: self._world]])
        except DataError as error:
            share = failed(str(error))
        found = outcomes(self._exchange(share), len(rows))
        self._ready.extend((place, number, outcome) for (place, number, _), outcome in zip(rows, found, strict=True))

    def _broken(self, outcome: Outcome) -> list[BadRow]:
        bad = outcome.bad
        return [] if bad is None or (bad.empty and self._data.clean.drop_empty) else [bad]

    def _check(self, bad: list[BadRow]) -> None:
        if self._position.bad > self._data.max_bad_rows:
            raise DataError(bad_rows_in_words(bad, self._data.max_bad_rows, self._position.bad))
        if self._fruitless >= FRUITLESS_ROWS:
            raise DataError(f"no document in {self._fruitless} rows one after the other: see data.on_long")
