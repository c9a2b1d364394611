"""`data.json`: where the prepared data of a run lies and what it consists of. Reading it needs no tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.schema import ProblemType
from train.data.block import BadRow
from train.data.documents import Documents, LongArray
from train.data.order import epoch_order

HELD_OUT_EPOCH = (1 << 64) - 1
"""An epoch that no run reaches: its order decides which documents are held out."""


@dataclass(frozen=True)
class Split:
    """One split: its cache folder and counts.

    `rows` were read: `bad_rows` of them are broken, `dropped` too long, `without_targets` have nothing to learn, once
    cut or by themselves; the rest are the `documents`, `truncated` of them cut. Of a file that serves two splits,
    `kept` or `held_out` tells which documents are this one's; `held_out_count` of them are held out by `seed`.
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
    bad: list[BadRow] = field(default_factory=list)
    part: str = "all"
    held_out_count: int = 0
    seed: int = 0

    def open(self) -> Documents:
        """The documents, memory-mapped.

        Raises:
            ValueError, FileNotFoundError: the cache was removed or is not whole.
        """
        documents = Documents.open(Path(self.folder))
        if self.part == "all":
            return documents
        kept, held_out = parts(len(documents), self.held_out_count, self.seed)
        return documents.subset(held_out if self.part == "held_out" else kept)

    def take(self, part: str) -> Split:
        """The documents that are `kept` or `held_out` as a split of their own."""
        split = replace(self, part=part)
        documents = split.open()
        return replace(
            split,
            documents=len(documents),
            tokens=int(documents.lengths.sum(dtype=np.int64)),
            targets=int(documents.targets.sum(dtype=np.int64)),
            longest=int(documents.lengths.max(initial=0)),
        )

    def in_words(self) -> str:
        """What became of the rows."""
        lost = {
            "broken": self.bad_rows,
            "too long and dropped": self.dropped,
            "cut to data.max_length": self.truncated,
            "without anything to learn": self.without_targets,
        }
        words = ", ".join(f"{count} {what}" for what, count in lost.items() if count)
        counts = f"{self.documents} documents of {self.rows} rows, {self.tokens} tokens, {self.targets} targets"
        return f"{counts}; {words}" if words else counts


@dataclass(frozen=True)
class Labels:
    """What a classifier tells apart: the kind of problem, and the names in the order of the model's outputs.

    Of a regression the names are those of its numbers.
    """

    problem_type: ProblemType
    names: list[str]


@dataclass(frozen=True)
class Prepared:
    """What the data step made. `digest` names the content of all splits; `notes` say what a person should know."""

    splits: dict[str, Split]
    digest: str
    vocabulary: int
    pad_id: int
    end_id: int
    seconds: float
    reused: bool
    notes: list[str] = field(default_factory=list)
    labels: Labels | None = None

    def open(self, name: str) -> Documents | None:
        """The documents of `train`, `validation` or `test`; None where there is no such split."""
        return self.splits[name].open() if name in self.splits else None


def parts(count: int, held_out: int, seed: int) -> tuple[LongArray, LongArray]:
    """Documents kept and documents held out, each in the order of the file."""
    order = epoch_order(count, seed, HELD_OUT_EPOCH)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def read_prepared(folder: RunFolder) -> Prepared:
    """`data.json` of a run.

    Raises:
        FileNotFoundError: the data step did not come to its end.
    """
    return msgspec.json.decode(folder.data_json.read_bytes(), type=Prepared)


def write_prepared(folder: RunFolder, prepared: Prepared) -> None:
    write_atomically(folder.data_json, msgspec.json.format(msgspec.json.encode(prepared), indent=2) + b"\n")
