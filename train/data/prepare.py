"""The data step: from the files of a configuration to `data.json` and `model/` in the run folder.

Everything is made once, under a key of what it depends on, in the cache folder that runs share: the tokenizer, the
documents of each file and random models. A second run, or a second start of one, finds them and needs no tokenizer
library. What a configuration names as files are absolute paths by now.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import ModelInit, Packing, RunConfig, TaskName
from train.data import tokenizer as tokenizers
from train.data.block import BadRow, DataError
from train.data.cache import content_key, link_or_copy, made_beside, made_once, make_root
from train.data.documents import FORMAT_VERSION, Documents
from train.data.encode import bad_rows_in_words, encode_source
from train.data.make_model import make_model
from train.data.packing_check import check_packing
from train.data.prepared import Prepared, Split, read_prepared, write_prepared
from train.data.splits import Source, held_out_count, sources

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


@dataclass
class _Preparation:
    plan: Plan
    folder: RunFolder
    report: Report

    def __post_init__(self) -> None:
        self.config: RunConfig = self.plan.config
        data = self.config.data
        self.cache = Path(data.cache_dir) if data.cache_dir else self.folder.path.parent / ".cache"
        self.template = data.chat_template
        self.made: list[str] = []

    def run(self) -> Prepared:
        started = time.monotonic()
        make_root(self.cache, self.config.access)
        found = sources(self.config.data)
        splits = {name: self._split(name, source) for name, source in found.items()}
        self._check_bad_rows(splits)
        splits |= self._hold_out(splits)
        for name, split in splits.items():
            if split.documents == 0:
                raise DataError(f"{split.source}: nothing is left for {name}: {split.in_words()}")
        special = self._special
        self._write_model()
        if self.plan.packing != Packing.none.value:
            random = self.config.model.init is ModelInit.random
            check_packing(self.config.model, self.folder.model if random else None, self.cache)
        notes = [*special["notes"], *(f"{name}: {split.in_words()}" for name, split in splits.items())]
        notes += [f"broken and left out: {row}" for row in self._bad_rows(splits)]
        for note in notes:
            self.report(note, 0, 0)
        return Prepared(
            splits=splits,
            digest=content_key([[name, Path(split.folder).name, split.part] for name, split in splits.items()]),
            vocabulary=special["vocabulary"],
            pad_id=special["pad_id"],
            end_id=special["end_id"],
            seconds=round(time.monotonic() - started, 3),
            reused=not self.made,
            notes=notes,
        )

    @cached_property
    def _train_source(self) -> Source:
        return sources(self.config.data)["train"]

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
        content = json.dumps([self._train_source.digest, self._row_options], sort_keys=True)
        identity = tokenizers.tokenizer_identity(self.config.model, content)
        target = self.cache / "tokenizers" / content_key(identity, self.template)
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
            tokenizer = tokenizers.train_tokenizer(self._train_source.texts(data), model.tokenizer_vocab_size)
        else:
            tokenizer = tokenizers.load_tokenizer(model)
        notes = tokenizers.complete_tokenizer(tokenizer, self.template)
        tokenizer.save_pretrained(folder)
        special = {
            "vocabulary": len(tokenizer),
            "pad_id": tokenizer.pad_token_id,
            "end_id": tokenizer.eos_token_id,
            "notes": notes,
        }
        (folder / SPECIAL).write_text(json.dumps(special))

    def _split(self, name: str, source: Source) -> Split:
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
        key = content_key(FORMAT_VERSION, source.digest, self._tokenizer_folder.name, options)
        target = self.cache / "documents" / key
        if not _whole(target):
            shutil.rmtree(target, ignore_errors=True)
            self.made.append(name)
            with made_beside(target) as folder:
                vocabulary, task = self._special["vocabulary"], self.config.task.name
                made = encode_source(source, self._tokenizer, data, vocabulary, folder, self.report, task)
                (folder / RECORD).write_bytes(msgspec.json.encode(made))
        split = msgspec.json.decode((target / RECORD).read_bytes(), type=Split)
        # The same content may lie under another name by now.
        bad = [replace(row, file=source.name) for row in split.bad]
        return replace(split, source=source.name, folder=str(target), bad=bad)

    def _check_bad_rows(self, splits: dict[str, Split]) -> None:
        """The budget holds for all files together; prepared ones may have come from a run with a larger one."""
        count, budget = sum(split.bad_rows for split in splits.values()), self.config.data.max_bad_rows
        if count > budget:
            raise DataError(bad_rows_in_words(self._bad_rows(splits), budget, count))

    def _bad_rows(self, splits: dict[str, Split]) -> list[BadRow]:
        """Broken rows, those of a source that serves two splits once."""
        return [row for split in splits.values() if split.part != "held_out" for row in split.bad]

    def _hold_out(self, splits: dict[str, Split]) -> dict[str, Split]:
        """Training and validation documents of one source, where there is no validation data of its own."""
        count = held_out_count(self.config.data.validation_size, splits["train"].documents)
        if "validation" in splits or count == 0:
            return {}
        whole = replace(splits["train"], held_out_count=count, seed=self.config.train.seed)
        return {name: whole.take(part) for name, part in (("train", "kept"), ("validation", "held_out"))}

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


def _whole(folder: Path) -> bool:
    try:
        Documents.open(folder)
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return (folder / RECORD).is_file()
