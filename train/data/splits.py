"""The sources of a run's splits: a file each, or the splits of a hub data set."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from conf.schema import DataConfig
from train.data import sources as files
from train.data.block import Block, DataError, Row, RowError, decode
from train.data.rows import Shape, plain_text, shape_of

HUB_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class Source:
    """Rows of one split: a file, or a loaded split of a hub data set. `size` is in bytes, or rows of the latter.

    `label` is the name of one of several sources (`data.train_files`); those may differ in their columns.
    """

    name: str
    size: int
    hub: Any = None
    label: str = ""

    @cached_property
    def digest(self) -> str:
        """What identifies the content."""
        if self.hub is None:
            return files.digest(Path(self.name))
        return hashlib.sha256(f"hub:{self.name}:{self.hub._fingerprint}".encode()).hexdigest()

    def blocks(self) -> Iterator[Block]:
        return files.blocks(Path(self.name)) if self.hub is None else files.hub_blocks(self.name, self.hub)

    def rows(self) -> Iterator[Row]:
        """Rows that can be decoded."""
        for block in self.blocks():
            yield from decode(block)[0]

    def texts(self, data: DataConfig) -> Iterator[str]:
        """The text of every row that can be used, to train a tokenizer on."""
        shape = self.shape(data)
        for row in self.rows():
            with contextlib.suppress(RowError):
                yield plain_text(row.columns, shape, data)

    def codes(self, data: DataConfig) -> list[str]:
        """Names that the numbers in the label's column stand for, where the data has them: a hub data set's."""
        if self.hub is None:
            return []
        feature = self.hub.features[self.shape(data).columns["label"]]
        return list(getattr(getattr(feature, "feature", feature), "names", None) or [])

    def shape(self, data: DataConfig) -> Shape:
        """Format and columns, by the first row that can be decoded.

        Raises:
            DataError: there is none, or its columns do not fit.
        """
        first = next(self.rows(), None)
        if first is None:
            bad = next((str(row) for block in self.blocks() for row in decode(block)[1]), "empty")
            raise DataError(f"{self.name}: no row can be read ({bad})")
        if self.label:
            there = {role: column for role, column in data.columns.items() if column in first.columns}
            data = replace(data, columns=there)
        return shape_of(first.columns, data, f"{self.name}:{first.line}")


def sources(data: DataConfig, training: bool = True) -> dict[str, list[Source]]:
    """The sources by split: those of `train` and, where given, of `validation` and `test`, one each.

    Without `training` there need be none of `train`, and of what is streamed there is none here (`stream_sources`).

    Raises:
        DataError: there is no training data, a file is missing, or the hub data set is not on this machine.
    """
    given = {"train": data.train_file, "validation": data.validation_file, "test": data.test_file}
    read = {name: path for name, path in given.items() if path is not None and not (data.streaming and name == "train")}
    found = {name: [_file(f"data.{name}_file", path)] for name, path in read.items()}
    if data.train_files:
        files = data.train_files.items()
        found["train"] = [_file(f"data.train_files.{label}", path, label) for label, path in files]
    if data.dataset_name is not None and not data.streaming:
        found = _hub(data.dataset_name, data.dataset_config_name) | found
    if "train" not in found and (training or not found) and not data.streaming:
        raise DataError("no training data: give data.train_file, data.train_files or data.dataset_name")
    return {name: found[name] for name in given if name in found}


def _file(key: str, path: str, label: str = "") -> Source:
    if not Path(path).is_file():
        raise DataError(f"{key}={path}: no such file")
    return Source(path, Path(path).stat().st_size, label=label)


def _hub(name: str, config_name: str | None) -> dict[str, list[Source]]:
    import datasets

    try:
        loaded = datasets.load_dataset(name, config_name)
    except (OSError, ValueError) as error:
        raise DataError(f"data.dataset_name={name}: {error}") from error
    found = {}
    for split, names in HUB_SPLITS.items():
        known = next((known for known in names if known in loaded), None)
        if known is not None:
            found[split] = [Source(f"{name}[{known}]", len(loaded[known]), loaded[known])]
    return found
