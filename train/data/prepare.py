"""The data step: from the files of a configuration to `data.json` and `model/` in the run folder.

Everything is made once, under a key of what it depends on, in the cache folder that runs share: the tokenizer, the
documents of each file and random models. A second run, or a second start of one, finds them and needs no tokenizer
library. What a configuration names as files are absolute paths by now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from conf.data_report import DataReport, write_data_report
from conf.formats import format_for
from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import ModelInit, Packing, RunConfig, TaskName
from train.data.cache import content_key, make_root
from train.data.class_weights import class_weights
from train.data.label_survey import labelling_of
from train.data.labels import Labelling
from train.data.packing_check import check_packing
from train.data.parts import Parts, check_some
from train.data.picture import write_picture
from train.data.prepared import Prepared, Split, read_prepared, write_prepared
from train.data.progress import Report
from train.data.report import report_lines, report_on
from train.data.selection import select
from train.data.splits import Source, sources
from train.data.starting_model import StartingModel
from train.data.stream_sources import Head, StreamFile, head_of, stream_sources


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

    def run(self) -> Prepared:
        started = time.monotonic()
        splits, report, notes = self.documents()
        special = self._model.special
        self._model.write(self.folder.model)
        if self.plan.packing != Packing.none.value:
            self.report("checking that packed documents do not see each other", 0, 0)
            random = self.config.model.init is ModelInit.random
            check_packing(self.config.model, self.folder.model if random else None, self.cache)
        return Prepared(
            splits=splits,
            digest=content_key([[name, *split.identity] for name, split in splits.items()]),
            vocabulary=special["vocabulary"],
            pad_id=special["pad_id"],
            end_id=special["end_id"],
            seconds=round(time.monotonic() - started, 3),
            reused=not self._model.made,
            notes=notes,
            warnings=report.findings,
            labels=self._labelling.labels if self._labelling else None,
            stream=self._streamed(),
        )

    def documents(self) -> tuple[dict[str, Split], DataReport, list[str]]:
        """The splits, the report on them, which is written into the run folder, and notes."""
        make_root(self.cache, self.config.access)
        documents = Parts(self.config, self.cache, self._model, self._labelling, self.report)
        parts = documents.of(self._sources)
        self.report("choosing the documents of each split", 0, 0)
        selection = select(parts, self.config, self.cache)
        if not selection.reused:
            self._model.made.append("selection")
        splits = selection.splits
        for name, split in splits.items():
            check_some(name, split)
        if self._labelling is not None:
            class_weights(self.config.task, self._labelling.labels, next(iter(splits.values())).open())
        self.report("looking for duplicates and leaks", 0, 0)
        report = report_on(parts, selection, self.config.data, self._labelling.labels if self._labelling else None)
        write_data_report(self.folder.data_report, report)
        write_picture(self.folder.figure("lengths"), report)
        # What was lost in a source that serves several splits is said once.
        said = [f"{name}: {split.in_words(losses=name in parts)}" for name, split in splits.items()]
        notes = [*self._model.special["notes"], *said]
        if self.config.data.streaming:
            notes.append(f"train: what is said of it is said of its head; {self._head.in_words()} are streamed")
        notes += [*report_lines(report), *(f"broken and left out: {row}" for row in documents.bad_rows(parts))]
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
    def _model(self) -> StartingModel:
        return StartingModel(self.config, self.cache, self._leading, self._labelling is not None, self.report)
