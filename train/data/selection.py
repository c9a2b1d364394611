"""Which documents of the cache are a run's: splits held out and cleaned, kept as files of places, never rewritten.

A selection lies in the cache under a key of the documents it chooses from and the options that decide; a later run
with the same ones finds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conf.schema import CleanConfig, RunConfig, SplitBy
from train.data.block import DataError
from train.data.cache import content_key, made_once
from train.data.cleaning import clean
from train.data.documents import GROUP_HASH, INPUT_HASH, LABELS, LINE, Documents
from train.data.held_out import (
    HeldOut,
    StrataError,
    held_out_counts,
    hold_out_grouped,
    hold_out_random,
    hold_out_stratified,
)
from train.data.prepared import Part, Split

SHOWN_CLASSES = 3
RECORD = "record.json"


@dataclass(frozen=True)
class Selection:
    """The splits of a run, and how many training documents each rule of `data.clean` took.

    `wanted` are the documents that were to be held out, by split; whole groups may be fewer.
    """

    splits: dict[str, Split]
    taken: dict[str, int]
    reused: bool = True
    wanted: dict[str, int] = field(default_factory=dict)


def select(parts: dict[str, list[Part]], config: RunConfig, cache: Path) -> Selection:
    """The splits that the parts of `train`, `validation` and `test` make, by the options of the configuration.

    Raises:
        DataError: rows cannot be held out as asked for.
    """
    data = config.data
    if "train" not in parts:
        return Selection({name: Split.of(found) for name, found in parts.items()}, {})
    weights = [data.weights[part.name] for part in parts["train"]] if data.weights else []
    splits = {name: Split.of(found, weights if name == "train" else []) for name, found in parts.items()}
    sizes = (
        0.0 if "validation" in splits else data.validation_size,
        0.0 if "test" in splits else data.test_size,
    )
    if not any(sizes) and data.clean in (CleanConfig(), CleanConfig(drop_empty=True)):
        return Selection(splits, {})
    counts = held_out_counts(*sizes, splits["train"].documents)
    options = [counts, data.split_by.value, config.train.seed, msgspec.to_builtins(data.clean)]
    folders = {name: [Path(part.folder).name for part in found] for name, found in parts.items()}
    target = cache / "selections" / content_key(folders, options)

    def make(folder: Path) -> None:
        _make(folder, splits, counts, config)

    reused = made_once(target, make)
    taken = json.loads((target / RECORD).read_text())
    wanted = {name: count for name, count in zip(("validation", "test"), counts, strict=True) if count}
    held = {name: Split.of(parts["train"]).select(target / f"{name}.npy") for name in wanted}
    chosen = {"train": splits["train"].select(target / "train.npy"), **held, **_others(splits)}
    return Selection(chosen, taken, reused, wanted)


def _others(splits: dict[str, Split]) -> dict[str, Split]:
    return {name: split for name, split in splits.items() if name != "train"}


def _make(folder: Path, splits: dict[str, Split], counts: tuple[int, int], config: RunConfig) -> None:
    """Write the places of each split and what cleaning took."""
    documents = Split.of(splits["train"].parts).open(fingerprints=True)
    held = _hold_out(documents, splits["train"].parts, counts, config)
    inputs = documents.columns[INPUT_HASH]
    others = [split.open(fingerprints=True).columns[INPUT_HASH] for split in _others(splits).values()]
    others += [inputs[held.validation], inputs[held.test]]
    kept, taken = clean(documents, held.train, config.data.clean, others)
    if config.data.weights and not all(documents.subset(kept).sizes):
        raise DataError("holding out and cleaning leave nothing of a source that data.weights mixes in")
    for name, places in asdict(HeldOut(kept, held.validation, held.test)).items():
        np.save(folder / f"{name}.npy", places)
    (folder / RECORD).write_text(json.dumps(taken))


def _hold_out(documents: Documents, parts: Sequence[Part], counts: tuple[int, int], config: RunConfig) -> HeldOut:
    data, seed = config.data, config.train.seed
    if data.split_by is SplitBy.random or not any(counts):
        return hold_out_random(len(documents), counts, seed)
    groups = documents.columns.get(GROUP_HASH)
    if data.split_by is SplitBy.grouped:
        if groups is None:
            raise DataError("data.split_by=grouped needs data.split_column")
        return hold_out_grouped(groups, counts, seed)
    try:
        return hold_out_stratified(_classes(documents) if groups is None else groups, counts, seed)
    except StrataError as error:
        raise DataError(_small_classes(error, documents, parts, data.split_column or "the label")) from error


def _classes(documents: Documents) -> Any:
    labels = documents.columns.get(LABELS)
    if labels is None or labels.reshape(len(labels), -1).shape[1] != 1:
        raise DataError("data.split_by=stratified needs one label a row, or data.split_column")
    return labels.reshape(-1).astype(np.int64).astype(np.uint64)


def _small_classes(error: StrataError, documents: Documents, parts: Sequence[Part], column: str) -> str:
    """The classes that are too small, by the rows in which they are first seen."""
    rule = f"data.split_by=stratified: {error}"
    if not error.first:
        return rule
    ends = np.cumsum(documents.sizes)
    files = [parts[int(np.searchsorted(ends, place, side="right"))].source for place in error.first]
    lines = [int(documents.columns[LINE][place]) for place in error.first]
    shown = [f"{file}:{line}" for file, line in zip(files, lines, strict=True)][:SHOWN_CLASSES]
    more = f" and {len(lines) - SHOWN_CLASSES} more" if len(lines) > SHOWN_CLASSES else ""
    values = f"the value of {column} in {', '.join(shown)}{more} {error}"
    return f"data.split_by=stratified: {values}; leave its rows out, add some, or use data.split_by=random"
