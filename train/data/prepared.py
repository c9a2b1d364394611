"""`data.json`: where the prepared data of a run lies and what it consists of. Reading it needs no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.schema import ProblemType
from train.data.block import BadRow
from train.data.documents import Documents
from train.data.order import mix_of


@dataclass(frozen=True)
class Part:
    """The documents of one source in the cache, and what became of its rows.

    `rows` were read: `bad_rows` of them are broken, `empty` lack a text or an answer, `dropped` are too long,
    `without_targets` have nothing to learn, once cut or by themselves; the rest are the `documents`, `truncated` of
    them cut. `bad` names the first of the broken and empty rows. `name` is the source's in `data.train_files`, `digest`
    the SHA-256 of its bytes (of a hub data set, of its fingerprint).
    """

    source: str
    folder: str
    documents: int
    tokens: int
    targets: int
    longest: int
    rows: int
    bad_rows: int
    truncated: int
    dropped: int
    without_targets: int
    empty: int = 0
    bad: list[BadRow] = field(default_factory=list)
    name: str = ""
    digest: str = ""

    def open(self, fingerprints: bool = False) -> Documents:
        """The documents, memory-mapped.

        Raises:
            ValueError, FileNotFoundError: the cache was removed or is not whole.
        """
        return Documents.open(Path(self.folder), fingerprints)


@dataclass(frozen=True)
class Split:
    """One split: the documents of its parts, one part after the other, or a selection of them.

    `selection` is a file with the places (int64, ascending) of the documents that are this split's. `weights` are those
    of the parts in an epoch of training; without, each document comes once.
    """

    parts: list[Part]
    documents: int
    tokens: int
    targets: int
    longest: int
    selection: str | None = None
    weights: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, parts: list[Part], weights: Sequence[float] = ()) -> Split:
        """All documents of some parts."""
        documents, tokens = sum(part.documents for part in parts), sum(part.tokens for part in parts)
        targets, longest = sum(part.targets for part in parts), max(part.longest for part in parts)
        return cls(parts, documents, tokens, targets, longest, weights=list(weights))

    def select(self, selection: Path) -> Split:
        """The documents of this split, which has all of its parts, at the places in a file."""
        split = replace(self, selection=str(selection))
        documents = split.open()
        return replace(
            split,
            documents=len(documents),
            tokens=int(documents.lengths.sum(dtype=np.int64)),
            targets=int(documents.targets.sum(dtype=np.int64)),
            longest=int(documents.lengths.max(initial=0)),
        )

    def open(self, fingerprints: bool = False) -> Documents:
        """The documents, memory-mapped, with how they are mixed.

        Raises:
            ValueError, FileNotFoundError: the cache was removed or is not whole, or a source with a weight is empty.
        """
        documents = Documents.joined([part.open(fingerprints) for part in self.parts])
        if self.selection is not None:
            documents = documents.subset(np.load(self.selection))
        return documents.mixed(mix_of(documents.sizes, self.weights))

    @property
    def identity(self) -> list[str]:
        """Keys in the cache, and the weights: what the content of the split follows from."""
        selection = [Path(self.selection).parent.name, Path(self.selection).name] if self.selection else []
        return [*(Path(part.folder).name for part in self.parts), *selection, *map(str, self.weights)]

    @property
    def source(self) -> str:
        """Where the rows come from, in words."""
        return ", ".join(part.source for part in self.parts)

    @property
    def bad_rows(self) -> int:
        """Broken rows of all parts."""
        return sum(part.bad_rows for part in self.parts)

    def in_words(self, losses: bool = True) -> str:
        """How much there is, and what became of the other rows of the sources."""
        lost = {
            "broken": self.bad_rows,
            "without text or answer": sum(part.empty for part in self.parts),
            "too long and dropped": sum(part.dropped for part in self.parts),
            "cut to data.max_length": sum(part.truncated for part in self.parts),
            "without anything to learn": sum(part.without_targets for part in self.parts),
        }
        words = ", ".join(f"{count} {what}" for what, count in lost.items() if count)
        rows = sum(part.rows for part in self.parts)
        counts = f"{self.documents} documents of {rows} rows, {self.tokens} tokens, {self.targets} targets"
        return f"{counts}; {words}" if words and losses else counts


@dataclass(frozen=True)
class Labels:
    """What a classifier tells apart: the kind of problem, and the names in the order of the model's outputs.

    Of a regression the names are those of its numbers.
    """

    problem_type: ProblemType
    names: list[str]


@dataclass(frozen=True)
class Prepared:
    """What the data step made. `digest` names the content of all splits.

    `notes` say what a person should know, `warnings` what deserves a look before the results are believed. With
    `data.streaming` the split `train` is the head of the data alone, and `stream` names all its files with their bytes.
    """

    splits: dict[str, Split]
    digest: str
    vocabulary: int
    pad_id: int
    end_id: int | None
    seconds: float
    reused: bool
    notes: list[str] = field(default_factory=list)
    labels: Labels | None = None
    warnings: list[str] = field(default_factory=list)
    stream: list[tuple[str, int]] = field(default_factory=list)

    def open(self, name: str) -> Documents | None:
        """The documents of `train`, `validation` or `test`; None where there is no such split."""
        return self.splits[name].open() if name in self.splits else None


def read_prepared(folder: RunFolder) -> Prepared:
    """`data.json` of a run.

    Raises:
        FileNotFoundError: the data step did not come to its end.
    """
    return msgspec.json.decode(folder.data_json.read_bytes(), type=Prepared)


def write_prepared(folder: RunFolder, prepared: Prepared) -> None:
    write_atomically(folder.data_json, msgspec.json.format(msgspec.json.encode(prepared), indent=2) + b"\n")
