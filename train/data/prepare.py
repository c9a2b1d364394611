"""The data step: from the files of a configuration to `data.json` and `model/` in the run folder.

Everything is made once, under a key of what it depends on, in the cache folder that runs share: the tokenizer, the
documents of each file and random models. A second run, or a second start of one, finds them and needs no tokenizer
library. What a configuration names as files are absolute paths by now.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from conf.data_report import DataReport, write_data_report
from conf.formats import format_for
from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import Deduplicate, ModelInit, Packing, RunConfig, TaskName
from train.data import tokenizer as tokenizers
from train.data.block import BadRow, DataError
from train.data.cache import content_key, link_or_copy, made_beside, made_once, make_root
from train.data.documents import FORMAT_VERSION, Documents
from train.data.encode import bad_rows_in_words, encode_source
from train.data.label_survey import labelling_of
from train.data.labels import Labelling
from train.data.make_model import make_model
from train.data.packing_check import check_packing
from train.data.picture import write_picture
from train.data.prepared import Part, Prepared, Split, read_prepared, write_prepared
from train.data.report import report_lines, report_on
from train.data.selection import select
from train.data.splits import Source, sources
from train.data.stream_sources import Head, StreamFile, head_of, stream_sources

Report = Callable[[str, int, int], None]
"""What is being done, how much of it is done and how much there is, in bytes (rows for hub data sets)."""

SPECIAL, RECORD = "special.json", "record.json"
"""Files of the cache beside a tokenizer and beside documents."""


def prepare(plan: Plan, folder: RunFolder, report: Report) -> Prepared:
    """Prepare the data of a run, or find that it is prepared. May run several times, also at once.

    Raises:
        DataError: the data or the tokenizer cannot be used; the message says where and why.
        PackingError: documents shall be packed, and this model would let them see each other.
    """
    try:
        prepared = read_prepared(folder)
        for name in prepared.splits:
            prepared.open(name)
        if folder.model.is_dir():
            return prepared
    except (FileNotFoundError, ValueError, msgspec.MsgspecError):
        pass
    prepared = _Preparation(plan, folder, report).run()
    write_prepared(folder, prepared)
    return prepared


def prepare_documents(plan: Plan, folder: RunFolder, report: Report) -> DataReport:
    """Prepare the documents of a run alone, without its model; the report on them, which lies in the folder too.

    Raises:
        DataError: the data or the tokenizer cannot be used; the message says where and why.
    """
    return _Preparation(plan, folder, report).documents()[1]


@dataclass
class _Preparation:
    plan: Plan
    folder: RunFolder
    report: Report

    def __post_init__(self) -> None:
        config = self.plan.config
        data = replace(config.data, format=format_for(config.task.name, config.data.format))
        self.config: RunConfig = replace(config, data=data)
        self.cache = Path(data.cache_dir) if data.cache_dir else self.folder.path.parent / ".cache"
        self.template = data.chat_template
        self.made: list[str] = []

    def run(self) -> Prepared:
        started = time.monotonic()
        splits, report, notes = self.documents()
        special = self._special
        self._write_model()
        if self.plan.packing != Packing.none.value:
            random = self.config.model.init is ModelInit.random
            check_packing(self.config.model, self.folder.model if random else None, self.cache)
        return Prepared(
            splits=splits,
            digest=content_key([[name, *split.identity] for name, split in splits.items()]),
            vocabulary=special["vocabulary"],
            pad_id=special["pad_id"],
            end_id=special["end_id"],
            seconds=round(time.monotonic() - started, 3),
            reused=not self.made,
            notes=notes,
            warnings=report.findings,
            labels=self._labelling.labels if self._labelling else None,
            stream=self._streamed(),
        )

    def documents(self) -> tuple[dict[str, Split], DataReport, list[str]]:
        """The splits, the report on them, which is written into the run folder, and notes."""
        make_root(self.cache, self.config.access)
        parts = {name: [self._part(name, source) for source in found] for name, found in self._sources.items()}
        self._check_bad_rows(parts)
        for name, found in parts.items():
            self._check_some(name, Split.of(found), found)
        selection = select(parts, self.config, self.cache)
        if not selection.reused:
            self.made.append("selection")
        splits = selection.splits
        for name, split in splits.items():
            self._check_some(name, split, [])
        report = report_on(parts, selection, self.config.data, self._labelling.labels if self._labelling else None)
        write_data_report(self.folder.data_report, report)
        write_picture(self.folder.figure("lengths"), report)
        # What was lost in a source that serves several splits is said once.
        said = [f"{name}: {split.in_words(losses=name in parts)}" for name, split in splits.items()]
        notes = [*self._special["notes"], *said]
        if self.config.data.streaming:
            notes.append(f"train: what is said of it is said of its head; {self._head.in_words()} are streamed")
        notes += [*report_lines(report), *(f"broken and left out: {row}" for row in self._bad_rows(parts))]
        for note in [*notes, *(f"look at this: {finding}" for finding in report.findings)]:
            self.report(note, 0, 0)
        return splits, report, notes

    @cached_property
    def _sources(self) -> dict[str, list[Source]]:
        data = self.config.data
        found = sources(data, training=self.config.train.max_steps != 0)
        return {"train": [self._head], **found} if data.streaming else found

    @cached_property
    def _head(self) -> Head:
        return head_of(stream_sources(self.config.data))

    def _streamed(self) -> list[StreamFile]:
        """The files of a stream; none where the data is not one, or is on the hub."""
        if not self.config.data.streaming:
            return []
        return [(source.name, source.size) for source in self._head.whole if source.hub is None]

    @property
    def _leading(self) -> list[Source]:
        """The training data, or where there is none what is evaluated."""
        return self._sources.get("train") or [source for found in self._sources.values() for source in found]

    @cached_property
    def _labelling(self) -> Labelling | None:
        """How labels are read, of data that has them."""
        if self.config.task.name is not TaskName.seq_cls:
            return None
        return labelling_of(self._leading, self.config, self.cache)

    @cached_property
    def _row_options(self) -> dict[str, Any]:
        """What decides the text of a row."""
        data = self.config.data
        return {
            "format": data.format.value,
            "columns": data.columns,
            "chat_template": self.template,
            "prompt_template": data.prompt_template,
        }

    @cached_property
    def _tokenizer_folder(self) -> Path:
        """The tokenizer as this run uses it, made where it is not in the cache."""
        digests = [source.digest for source in self._leading]
        content = json.dumps([digests, self._row_options], sort_keys=True)
        identity = tokenizers.tokenizer_identity(self.config.model, content)
        task = (
            [TaskName.seq_cls.value] if self._labelling else []
        )  # encoders end no text, and have other special tokens
        target = self.cache / "tokenizers" / content_key(identity, self.template, *task)
        if not made_once(target, self._make_tokenizer):
            self.made.append("tokenizer")
        return target

    @cached_property
    def _special(self) -> dict[str, Any]:
        special: dict[str, Any] = json.loads((self._tokenizer_folder / SPECIAL).read_text())
        return special

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self._tokenizer_folder, trust_remote_code=self.config.model.trust_remote_code
        )

    def _make_tokenizer(self, folder: Path) -> None:
        model, data = self.config.model, self.config.data
        if tokenizers.tokenizer_source(model) == tokenizers.TRAINED:
            self.report("training a tokenizer", 0, 0)
            texts = itertools.chain.from_iterable(source.texts(data) for source in self._leading)
            tokenizer = tokenizers.train_tokenizer(texts, model.tokenizer_vocab_size)
            if self._labelling is not None:
                tokenizers.fit_to_classifier(tokenizer, model)
        else:
            tokenizer = tokenizers.load_tokenizer(model)
        notes = tokenizers.complete_tokenizer(tokenizer, self.template, self._labelling is None)
        tokenizer.save_pretrained(folder)
        special = {
            "vocabulary": len(tokenizer),
            "pad_id": tokenizer.pad_token_id,
            "end_id": tokenizer.eos_token_id,
            "notes": notes,
        }
        (folder / SPECIAL).write_text(json.dumps(special))

    def _part(self, name: str, source: Source) -> Part:
        """The documents of one source, from the cache or into it."""
        data = self.config.data
        options = {
            **self._row_options,
            "completion_only_loss": data.completion_only_loss,
            "max_length": data.max_length,
            "on_long": data.on_long.value,
        }
        if self.config.task.name is TaskName.seq2seq_lm:
            options |= {"task": TaskName.seq2seq_lm.value, "max_target_length": data.max_target_length}
        if self._labelling is not None:
            options["labelling"] = msgspec.to_builtins(self._labelling)
        if name == "train":
            near = data.clean.deduplicate is Deduplicate.near
            options |= ({"group": data.split_column} if data.split_column else {}) | ({"near": 1} if near else {})
        key = content_key(FORMAT_VERSION, source.digest, self._tokenizer_folder.name, options)
        target = self.cache / "documents" / key
        if not _whole(target):
            shutil.rmtree(target, ignore_errors=True)
            self.made.append("documents")
            with made_beside(target) as folder:
                vocabulary, task = self._special["vocabulary"], self.config.task.name
                training = name == "train"
                made = encode_source(
                    source, self._tokenizer, data, vocabulary, folder, self.report, task, training, self._labelling
                )
                (folder / RECORD).write_bytes(msgspec.json.encode(made))
        part = msgspec.json.decode((target / RECORD).read_bytes(), type=Part)
        # The same content may lie under another name by now.
        bad = [replace(row, file=source.name) for row in part.bad]
        return replace(part, source=source.name, folder=str(target), bad=bad, name=source.label)

    def _check_some(self, name: str, split: Split, parts: list[Part]) -> None:
        """Something has to be left of each split, and of each source whose documents are mixed by weight."""
        empty = [part for part in parts if part.documents == 0 and self.config.data.weights]
        if split.documents == 0 or empty:
            where = ", ".join(part.source for part in empty) or split.source
            raise DataError(f"{where}: nothing is left for {name}: {split.in_words()}")

    def _check_bad_rows(self, parts: dict[str, list[Part]]) -> None:
        """The budget holds for all files together; prepared ones may have come from a run with a larger one."""
        bad, budget = self._bad_rows(parts), self.config.data.max_bad_rows
        count = sum(part.bad_rows + (0 if self._drops(name) else part.empty) for name, part in _named(parts))
        if count > budget:
            raise DataError(bad_rows_in_words(bad, budget, count))

    def _bad_rows(self, parts: dict[str, list[Part]]) -> list[BadRow]:
        """Broken rows, and empty ones where they are no more than that."""
        return [row for name, part in _named(parts) for row in part.bad if not (row.empty and self._drops(name))]

    def _drops(self, name: str) -> bool:
        """Whether rows of a split without text or answer are left out without a word on each."""
        return name == "train" and self.config.data.clean.drop_empty

    def _write_model(self) -> None:
        """Tokenizer and, for random weights, the model into the run folder."""
        if self.folder.model.is_dir():
            return
        parts = [self._tokenizer_folder]
        if self.config.model.init is ModelInit.random:
            parts.append(self._model_folder())
        with made_beside(self.folder.model) as folder:
            for part in parts:
                link_or_copy(part, folder, leave=frozenset({SPECIAL}))

    def _model_folder(self) -> Path:
        """A random model, made where it is not in the cache."""
        model, seed = self.config.model, self.config.train.seed
        shape = model.shape or [model.model_name_or_path, model.revision]
        target = (
            self.cache / "models" / content_key(shape, self._tokenizer_folder.name, seed, self.config.task.name.value)
        )

        def make(folder: Path) -> None:
            self.report("drawing random weights", 0, 0)
            make_model(folder, model, self.config.task.name, self._tokenizer, seed)

        if not made_once(target, make):
            self.made.append("model")
        return target


def _named(parts: dict[str, list[Part]]) -> Iterator[tuple[str, Part]]:
    return ((name, part) for name, found in parts.items() for part in found)


def _whole(folder: Path) -> bool:
    try:
        Documents.open(folder)
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return (folder / RECORD).is_file()
