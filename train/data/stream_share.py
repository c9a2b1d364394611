"""One rank's share of tokenising a stream: every n-th row, and what all ranks know of it afterwards.

Ranks read the same rows, each tokenises its share, and one exchange gives all of them the documents of all. That costs
a few bytes a token on the wire, where each rank tokenising every row would cost a core of every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.data.block import BadRow, Block, DataError, Row
from train.data.documents import LINE, BoolArray, Document, IntArray
from train.data.stream import StreamRow
from train.data.tokenize import Encoder, Tokens


@dataclass(frozen=True)
class Share:
    """What became of a rank's rows: the documents of all of them end to end, how many each row gave, broken rows.

    `error` ends the run.
    """

    ids: IntArray
    mask: BoolArray
    lengths: IntArray
    documents: list[int]
    bad: dict[int, BadRow]
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one row: its documents, and why it is broken where it is."""

    documents: list[Document]
    bad: BadRow | None


def encode_share(encoder: Encoder, rows: Sequence[StreamRow]) -> Share:
    """The documents of some rows; an error of the data comes as a word, since all ranks have to hear of it."""
    try:
        return _encode(encoder, rows)
    except DataError as error:
        return failed(str(error))


def failed(error: str) -> Share:
    """A share that could not be made."""
    return Share(np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.int32), [], {}, error)


def outcomes(shares: Sequence[Share], count: int) -> list[Outcome]:
    """What became of `count` rows, whose i-th was in the share of rank i mod ranks.

    Raises:
        DataError: a rank could not go on.
    """
    error = next((share.error for share in shares if share.error), "")
    if error:
        raise DataError(error)
    by_rank = [_by_row(share) for share in shares]
    return [by_rank[index % len(shares)][index // len(shares)] for index in range(count)]


def _encode(encoder: Encoder, rows: Sequence[StreamRow]) -> Share:
    documents: dict[int, list[tuple[IntArray, BoolArray]]] = {}
    bad: dict[int, BadRow] = {}
    by_file: dict[str, dict[int, int]] = {}
    for number, row in enumerate(rows):
        by_file.setdefault(row.file, {})[row.line] = number
    for file, numbers in by_file.items():
        decoded = [rows[number].decoded() for number in numbers.values()]
        good = [row for row in decoded if isinstance(row, Row)]
        broken = [row for row in decoded if isinstance(row, BadRow)]
        tokens = encoder.encode(Block(file, 0, rows=good, bad=broken))
        bad |= {numbers[row.line]: row for row in tokens.bad}
        for line, document in _documents(tokens):
            documents.setdefault(numbers[line], []).append(document)
    ordered = [document for number in range(len(rows)) for document in documents.get(number, [])]
    return Share(
        np.concatenate([np.zeros(0, np.int32), *(ids for ids, _ in ordered)]),
        np.concatenate([np.zeros(0, np.bool_), *(mask for _, mask in ordered)]),
        np.array([len(ids) for ids, _ in ordered], np.int32),
        [len(documents.get(number, [])) for number in range(len(rows))],
        bad,
    )


def _documents(tokens: Tokens) -> list[tuple[int, tuple[IntArray, BoolArray]]]:
    """Line, tokens and target mask of each document."""
    bounds = np.cumsum(tokens.lengths)[:-1]
    ids, masks = np.split(tokens.ids, bounds), np.split(tokens.mask, bounds)
    return list(zip(tokens.columns[LINE].tolist(), zip(ids, masks, strict=True), strict=False))


def _by_row(share: Share) -> list[Outcome]:
    bounds = np.cumsum(share.lengths)[:-1]
    ids = np.split(share.ids.astype(np.int64), bounds)
    documents = [Document(*both) for both in zip(ids, np.split(share.mask, bounds), strict=True)]
    ends = np.cumsum([0, *share.documents])
    return [
        Outcome(documents[ends[number] : ends[number + 1]], share.bad.get(number))
        for number in range(len(share.documents))
    ]
