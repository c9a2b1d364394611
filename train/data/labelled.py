"""Documents with labels: one text or two as the model's own tokenizer joins them, and the label as numbers.

Of a document with a label the target bits say which tokens are of the second text (`token_type_ids`): no token of it is
a target. Too long ones are cut in their texts, the longer one first, as tokenizers do; special tokens stay. Runs in
worker processes; imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.schema import DataFormat
from train.data.block import DataError, Row
from train.data.conversations import Segment
from train.data.documents import LABELS, FloatArray
from train.data.labels import Labelling, UnknownLabelError, label_of
from train.data.rows import texts_of
from train.data.tokenize import Encoder

SECOND = 1
"""Number of the second text in a tokenizer's `sequence_ids`."""


@dataclass
class LabelEncoder(Encoder):
    """What turns blocks of labelled rows into tokens and labels.

    `codes` are names by number, of data that stores its labels so.
    """

    labelling: Labelling = field(kw_only=True)
    codes: list[str] = field(default_factory=list, kw_only=True)

    def __post_init__(self) -> None:
        if self.shape.format is not DataFormat.classification:
            raise DataError(
                f"rows in the format {self.shape.format.value} have no label, which task=seq_cls needs; "
                "give data.columns.label=<column> with data.format=classification"
            )
        self._special = [self._special_tokens(("a",)), self._special_tokens(("a", "a"))]

    def _segments(self, row: Row, file: str) -> list[Segment]:
        try:
            self._label(row)
        except UnknownLabelError as error:
            raise DataError(f"{file}:{row.line}: {error}") from error
        return [(text, False) for text in texts_of(row.columns, self.shape) if text is not None]

    def _label(self, row: Row) -> FloatArray:
        return self.labelling.vector(label_of(row.columns, self.shape, self.codes))

    def _columns(self, texts: list[list[Segment]], rows: list[Row]) -> dict[str, NDArray[Any]]:
        labels = np.zeros((len(rows), self.labelling.width), np.float32)
        for place, row in enumerate(rows):
            labels[place] = self._label(row)
        return super()._columns(texts, rows) | {LABELS: labels}

    def _documents(self, texts: list[list[Segment]]) -> list[tuple[list[int], list[bool]]]:
        if not texts:
            return []
        sides = [[text for text, _ in side] for side in zip(*texts, strict=True)]
        return self._encoded(sides)

    def _encoded(self, sides: list[list[str]]) -> list[tuple[list[int], list[bool]]]:
        """Tokens of the texts with special ones, and which are from the second text on."""
        found = self.tokenizer(*sides, verbose=False)
        documents = []
        for place, ids in enumerate(found["input_ids"]):
            if found.encodings is not None:
                owners = found.encodings[place].sequence_ids
                first = owners.index(SECOND) if SECOND in owners else len(ids)
            else:
                kinds = found["token_type_ids"][place] if "token_type_ids" in found else []
                first = kinds.index(SECOND) if SECOND in kinds else len(ids)
            documents.append((list(ids), [number >= first for number in range(len(ids))]))
        return documents

    def _finish(self, tokens: list[int], targets: list[bool]) -> None:
        """The tokenizer has ended the texts."""

    def _has_target(self, targets: list[bool]) -> bool:
        return True

    def _cut(self, tokens: list[int], targets: list[bool]) -> tuple[list[int], list[bool]]:
        before, between, after = self._special[any(targets)]
        size = len(tokens) - sum(targets)
        parts = [tokens[before : size - between]]
        if any(targets):
            parts.append(tokens[size : len(tokens) - after])
        kept = shared([len(part) for part in parts], self.data.max_length - before - between - after)
        first = tokens[:before] + parts[0][: kept[0]] + tokens[size - between : size]
        second = parts[1][: kept[1]] + tokens[len(tokens) - after :] if any(targets) else []
        return first + second, [False] * len(first) + [True] * len(second)

    def _special_tokens(self, texts: tuple[str, ...]) -> tuple[int, int, int]:
        """Special tokens before the first text, after it, and after the second."""
        plain = [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        [(ids, mask)] = self._encoded([[text] for text in texts])
        first = self.tokenizer(texts[0], add_special_tokens=False)["input_ids"]
        before = next((at for at in range(len(ids)) if ids[at : at + len(first)] == first), 0)
        size = len(ids) - sum(mask)
        return before, size - before - plain[0], sum(mask) - plain[1] if any(mask) else 0


def shared(lengths: list[int], room: int) -> list[int]:
    """Tokens that one text or two keep within `room`: the longer one gives first."""
    room = max(0, room)
    if len(lengths) == 1:
        return [min(lengths[0], room)]
    shorter = min(*lengths, room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]
