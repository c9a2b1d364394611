"""What a run starts from: its tokenizer and, for random weights, its model, each made once into the cache."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from conf.schema import DataConfig, ModelInit, RunConfig, TaskName
from train.data import tokenizer as tokenizers
from train.data.cache import content_key, link_or_copy, made_beside, made_once
from train.data.make_model import make_model
from train.data.progress import Report
from train.data.splits import Source

SPECIAL = "special.json"
"""The file beside a tokenizer in the cache: its special tokens, and notes."""


@dataclass
class StartingModel:
    """The tokenizer and model of a configuration.

    Args:
        sources: what a tokenizer is trained on, where one is.
        labelled: the documents have labels; a classifier's tokenizer ends no text, and has other special tokens.
        made: takes a word for each thing that was not in the cache.
    """

    config: RunConfig
    cache: Path
    sources: list[Source]
    labelled: bool
    report: Report
    made: list[str] = field(default_factory=list)

    @cached_property
    def folder(self) -> Path:
        """The tokenizer as this run uses it, made where it is not in the cache."""
        digests = [source.digest for source in self.sources]
        trained_on: list[Any] = [digests, row_options(self.config.data)]
        if self.labelled:  # its special tokens depend on what reads them
            trained_on.append(dict(self.config.model.shape) or self.config.model.model_name_or_path)
        content = json.dumps(trained_on, sort_keys=True)
        identity = tokenizers.tokenizer_identity(self.config.model, content)
        task = [TaskName.seq_cls.value] if self.labelled else []
        target = self.cache / "tokenizers" / content_key(identity, self.config.data.chat_template, *task)
        if not made_once(target, self._make_tokenizer):
            self.made.append("tokenizer")
        return target

    @cached_property
    def special(self) -> dict[str, Any]:
        """`vocabulary`, `pad_id`, `end_id` and `notes` of the tokenizer, which need no library to be known."""
        special: dict[str, Any] = json.loads((self.folder / SPECIAL).read_text())
        return special

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer itself."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=self.config.model.trust_remote_code)

    def write(self, target: Path) -> None:
        """Tokenizer and, for random weights, the model into a run's folder."""
        if target.is_dir():
            return
        parts = [self.folder]
        if self.config.model.init is ModelInit.random:
            parts.append(self._model_folder())
        with made_beside(target) as folder:
            for part in parts:
                link_or_copy(part, folder, leave=frozenset({SPECIAL}))

    def _make_tokenizer(self, folder: Path) -> None:
        model, data = self.config.model, self.config.data
        if tokenizers.tokenizer_source(model) == tokenizers.TRAINED:
            self.report("training a tokenizer", 0, 0)
            texts = itertools.chain.from_iterable(source.texts(data) for source in self.sources)
            tokenizer = tokenizers.train_tokenizer(texts, model.tokenizer_vocab_size)
            if self.labelled:
                tokenizers.fit_to_classifier(tokenizer, model)
        else:
            tokenizer = tokenizers.load_tokenizer(model)
        notes = tokenizers.complete_tokenizer(tokenizer, data.chat_template, not self.labelled)
        tokenizer.save_pretrained(folder)
        special = {
            "vocabulary": len(tokenizer),
            "pad_id": tokenizer.pad_token_id,
            "end_id": tokenizer.eos_token_id,
            "notes": notes,
        }
        (folder / SPECIAL).write_text(json.dumps(special))

    def _model_folder(self) -> Path:
        """A random model, made where it is not in the cache."""
        model, seed, task = self.config.model, self.config.train.seed, self.config.task.name
        shape = model.shape or [model.model_name_or_path, model.revision]
        target = self.cache / "models" / content_key(shape, self.folder.name, seed, task.value)

        def make(folder: Path) -> None:
            self.report("drawing random weights", 0, 0)
            make_model(folder, model, task, self.tokenizer, seed)

        if not made_once(target, make):
            self.made.append("model")
        return target


def row_options(data: DataConfig) -> dict[str, Any]:
    """What decides the text of a row."""
    return {
        "format": data.format.value,
        "columns": data.columns,
        "chat_template": data.chat_template,
        "prompt_template": data.prompt_template,
    }
