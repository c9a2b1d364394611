"""Prepared documents on disk: the format of the cache, writing it once and reading it memory-mapped.

A folder holds `tokens.bin` (uint16, or int32 for vocabularies beyond 65,536), `targets.bin` (one bit a token, set where
the token is a target of the loss), `lengths.npy` and `targets.npy` (int32, per document), `index.json`, and
`<name>.npy` for each further column, an array whose first dimension is documents. The column `labels` (float32,
documents × width) is one class number, one 0 or 1 for each label, or numbers. The first token of a document is never a
target: nothing comes before it.

Columns that the encoder writes beside every document: `line` (int32, line or row of the source), `row_hash` and
`input_hash` (uint64, of the text and of what comes before the answer), and where they are asked for `group_hash`
(uint64, of the value of `data.split_column`) and `signature` (uint32, documents × permutations: MinHash).
"""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from train.data.order import Mix

FORMAT_VERSION = 3

LABELS = "labels"
"""The column with what a classifier shall say."""

LINE, ROW_HASH, INPUT_HASH, GROUP_HASH, SIGNATURE = "line", "row_hash", "input_hash", "group_hash", "signature"
FINGERPRINTS = frozenset({ROW_HASH, INPUT_HASH, GROUP_HASH, SIGNATURE})
"""Columns for cleaning and splitting; training needs none of them."""

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Document:
    """Tokens of one document, int64 (length,), which of them are targets, bool (length,), and its label, (width,)."""

    ids: LongArray
    target_mask: BoolArray
    label: FloatArray | None = None

    @property
    def prompt(self) -> LongArray:
        """What comes before the first target: what a model is given to answer."""
        return self.ids[: int(self.target_mask.argmax())]


@dataclass(frozen=True)
class _Files:
    """Tokens and target bits of one folder."""

    tokens: npt.NDArray[Any]
    bits: npt.NDArray[np.uint8]

    def document(self, start: int, end: int, label: FloatArray | None) -> Document:
        first, last = start // 8, (end + 7) // 8
        bits = np.unpackbits(self.bits[first:last], bitorder="little")
        mask = bits[start - first * 8 : end - first * 8].astype(np.bool_)
        return Document(np.asarray(self.tokens[start:end], dtype=np.int64), mask, label)


class Documents(Sequence[Document]):
    """Documents of one split. `lengths` and `targets` are int32 (documents,).

    `targets` counts what a document adds to the loss: its target tokens, or 1 where it has a label. `columns` are
    further arrays by name, one entry a document. `sizes` says how many documents come from each folder, in order, and
    `mix` how often those of each folder come in an epoch of training.
    """

    def __init__(
        self,
        files: Sequence[_Files],
        sizes: Sequence[int],
        starts: LongArray,
        lengths: IntArray,
        targets: IntArray,
        columns: Mapping[str, npt.NDArray[Any]],
        mix: Mix | None = None,
    ):
        self._files = tuple(files)
        self._starts = starts
        self._ends = list(itertools.accumulate(sizes))
        self.sizes = tuple(int(size) for size in sizes)
        self.lengths = lengths
        self.targets = targets
        self.columns = dict(columns)
        self.mix = mix or Mix((len(lengths),), (len(lengths),))

    @classmethod
    def open(cls, folder: Path, fingerprints: bool = False) -> Documents:
        """The documents in a folder, memory-mapped; with the columns of `FINGERPRINTS` where they are asked for.

        Raises:
            ValueError: the folder holds another format, or files of other sizes than its index says.
            FileNotFoundError: it holds no documents.
        """
        index = json.loads((folder / "index.json").read_text())
        if index["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"{folder} has format version {index['format_version']}; this Muster reads {FORMAT_VERSION}"
            )
        lengths = np.load(folder / "lengths.npy")
        targets = np.load(folder / "targets.npy")
        tokens, dtype = index["tokens"], np.dtype(index["dtype"])
        sizes = {"tokens.bin": tokens * dtype.itemsize, "targets.bin": (tokens + 7) // 8}
        for name, size in sizes.items():
            found = (folder / name).stat().st_size
            if found != size:
                raise ValueError(f"{folder / name} has {found} bytes, {size} expected")
        if len(lengths) != index["documents"] or len(targets) != index["documents"] or int(lengths.sum()) != tokens:
            raise ValueError(f"{folder}: lengths and index do not agree")
        names = [name for name in index["columns"] if fingerprints or name not in FINGERPRINTS]
        columns = {name: np.load(folder / f"{name}.npy") for name in names}
        if any(len(column) != len(lengths) for column in columns.values()):
            raise ValueError(f"{folder}: columns and index do not agree")
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        files = _Files(np.zeros(0, dtype), np.zeros(0, np.uint8))
        if tokens:
            maps = np.memmap(folder / "tokens.bin", dtype, "r"), np.memmap(folder / "targets.bin", np.uint8, "r")
            files = _Files(*maps)
        return cls([files], [len(lengths)], starts, lengths, targets, columns)

    @classmethod
    def joined(cls, parts: Sequence[Documents]) -> Documents:
        """Documents of several folders (≥ 1) one after the other, with the columns that all of them have."""
        if len(parts) == 1:
            return parts[0]
        names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        return cls(
            [files for part in parts for files in part._files],
            [size for part in parts for size in part.sizes],
            np.concatenate([part._starts for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.targets for part in parts]),
            {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        )

    def subset(self, indices: LongArray) -> Documents:
        """The documents at `indices`, in that order, over the same files; ascending where there are several folders."""
        starts, lengths, targets = self._starts[indices], self.lengths[indices], self.targets[indices]
        columns = {name: column[indices] for name, column in self.columns.items()}
        sizes = [len(indices)]
        if len(self._files) > 1:
            sizes = np.diff(np.searchsorted(indices, [0, *self._ends])).tolist()
        return Documents(self._files, sizes, starts, lengths, targets, columns)

    def mixed(self, mix: Mix) -> Documents:
        """The same documents, coming as often as `mix` says."""
        return Documents(self._files, self.sizes, self._starts, self.lengths, self.targets, self.columns, mix)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        """The document at an integer index; slices are not supported."""
        index = range(len(self))[int(index)]
        start = int(self._starts[index])
        end = start + int(self.lengths[index])
        labels = self.columns.get(LABELS)
        files = self._files[bisect_right(self._ends, index)]
        return files.document(start, end, None if labels is None else labels[index])


class Writer:
    """Writes the documents of one split into an existing, empty folder; `index.json` comes last, on leaving."""

    def __init__(self, folder: Path, vocabulary: int):
        self._folder = folder
        self._dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.int32)
        self._lengths: list[IntArray] = []
        self._targets: list[IntArray] = []
        self._columns: dict[str, list[npt.NDArray[Any]]] = {}
        self._rest = np.zeros(0, np.bool_)
        self._tokens_file: BinaryIO = (folder / "tokens.bin").open("wb")
        self._bits_file: BinaryIO = (folder / "targets.bin").open("wb")

    def __enter__(self) -> Writer:
        return self

    def write(
        self,
        ids: npt.NDArray[Any],
        mask: BoolArray,
        lengths: IntArray,
        columns: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        """Append a batch of documents: their tokens end to end, target mask, lengths, and the same columns each time.

        Documents have ≥ 1 token. With a column `labels` each document is one target.
        """
        columns = columns or {}
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)[:-1]])
        if LABELS in columns:
            self._targets.append(np.ones(len(lengths), np.int32))
        elif len(lengths):
            self._targets.append(np.add.reduceat(mask.astype(np.int32), starts).astype(np.int32))
        self._lengths.append(lengths)
        self._tokens_file.write(ids.astype(self._dtype).tobytes())
        mask = np.concatenate([self._rest, mask])
        whole = len(mask) // 8 * 8
        self._bits_file.write(np.packbits(mask[:whole], bitorder="little").tobytes())
        self._rest = mask[whole:]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bits_file.write(np.packbits(self._rest, bitorder="little").tobytes())
        self._tokens_file.close()
        self._bits_file.close()
        if error is not None:
            return
        empty = np.zeros(0, np.int32)
        lengths = np.concatenate([empty, *self._lengths])
        targets = np.concatenate([empty, *self._targets])
        np.save(self._folder / "lengths.npy", lengths)
        np.save(self._folder / "targets.npy", targets)
        for name, parts in self._columns.items():
            np.save(self._folder / f"{name}.npy", np.concatenate(parts))
        index = {
            "format_version": FORMAT_VERSION,
            "dtype": self._dtype.name,
            "documents": len(lengths),
            "tokens": int(lengths.sum(dtype=np.int64)),
            "targets": int(targets.sum(dtype=np.int64)),
            "columns": sorted(self._columns),
        }
        (self._folder / "index.json").write_text(json.dumps(index) + "\n")
