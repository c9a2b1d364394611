"""The documents of each source, from the cache or into it, and the budget of broken rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from conf.schema import Deduplicate, RunConfig, TaskName
from train.data.block import BadRow, DataError
from train.data.cache import content_key, made_beside
from train.data.documents import FORMAT_VERSION, Documents
from train.data.encode import bad_rows_in_words, encode_source
from train.data.labels import Labelling
from train.data.prepared import Part, Split
from train.data.progress import Report
from train.data.splits import Source
from train.data.starting_model import StartingModel, row_options

RECORD = "record.json"
"""The file beside documents in the cache: their `Part`."""


@dataclass
class Parts:
    """The documents of a configuration's sources, by split."""

    config: RunConfig
    cache: Path
    model: StartingModel
    labelling: Labelling | None
    report: Report

    def of(self, sources: Mapping[str, Sequence[Source]]) -> dict[str, list[Part]]:
        """The parts of each split.

        Raises:
            DataError: a source cannot be used, too many rows are broken, or nothing is left.
        """
        parts = {name: [self._part(name, source) for source in found] for name, found in sources.items()}
        self._check_bad_rows(parts)
        for name, found in parts.items():
            check_some(name, Split.of(found))
            empty = [part.source for part in found if part.documents == 0 and self.config.data.weights]
            if empty:
                raise DataError(f"{', '.join(empty)}: nothing is left of a source that data.weights mixes in")
        return parts

    def bad_rows(self, parts: Mapping[str, Sequence[Part]]) -> list[BadRow]:
        """Broken rows, and empty ones where they are no more than that."""
        return [row for name, part in _named(parts) for row in part.bad if not (row.empty and self._drops(name))]

    def _check_bad_rows(self, parts: Mapping[str, Sequence[Part]]) -> None:
        """The budget holds for all files together; prepared ones may have come from a run with a larger one."""
        budget = self.config.data.max_bad_rows
        count = sum(part.bad_rows + (0 if self._drops(name) else part.empty) for name, part in _named(parts))
        if count > budget:
            raise DataError(bad_rows_in_words(self.bad_rows(parts), budget, count))

    def _drops(self, name: str) -> bool:
        """Whether rows of a split without text or answer are left out without a word on each."""
        return name == "train" and self.config.data.clean.drop_empty

    def _part(self, name: str, source: Source) -> Part:
        """The documents of one source, from the cache or into it."""
        key = content_key(FORMAT_VERSION, source.digest, self.model.folder.name, self._options(name))
        target = self.cache / "documents" / key
        if not _whole(target):
            shutil.rmtree(target, ignore_errors=True)
            self.model.made.append("documents")
            with made_beside(target) as folder:
                (folder / RECORD).write_bytes(msgspec.json.encode(self._encode(name, source, folder)))
        part = msgspec.json.decode((target / RECORD).read_bytes(), type=Part)
        # The same content may lie under another name by now.
        bad = [replace(row, file=source.name) for row in part.bad]
        part = replace(part, source=source.name, folder=str(target), name=source.label)
        return replace(part, bad=bad, digest=source.digest)

    def _encode(self, name: str, source: Source, folder: Path) -> Part:
        tokenizer, vocabulary = self.model.tokenizer, self.model.special["vocabulary"]
        data, task, training = self.config.data, self.config.task.name, name == "train"
        return encode_source(source, tokenizer, data, vocabulary, folder, self.report, task, training, self.labelling)

    def _options(self, name: str) -> dict[str, Any]:
        """What decides the documents of a source, beside its content and the tokenizer."""
        data = self.config.data
        options = {
            **row_options(data),
            "completion_only_loss": data.completion_only_loss,
            "max_length": data.max_length,
            "on_long": data.on_long.value,
        }
        if self.config.task.name is TaskName.seq2seq_lm:
            options |= {"task": TaskName.seq2seq_lm.value, "max_target_length": data.max_target_length}
        if self.labelling is not None:
            options["labelling"] = msgspec.to_builtins(self.labelling)
        if name == "train" and data.split_column:
            options["group"] = data.split_column
        if name == "train" and data.clean.deduplicate is Deduplicate.near:
            options["near"] = True
        return options


def check_some(name: str, split: Split) -> None:
    """Something has to be left of each split.

    Raises:
        DataError: nothing is.
    """
    if split.documents == 0:
        raise DataError(f"{split.source}: nothing is left for {name}: {split.in_words()}")


def _named(parts: Mapping[str, Sequence[Part]]) -> Iterator[tuple[str, Part]]:
    return ((name, part) for name, found in parts.items() for part in found)


def _whole(folder: Path) -> bool:
    try:
        Documents.open(folder)
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return (folder / RECORD).is_file()
