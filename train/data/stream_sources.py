"""Where the rows of a stream come from, and its head, which is all that the data step reads of it.

From the head come the format of the rows, a tokenizer where one is trained, and an idea of their length.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from conf.schema import DataConfig, RunConfig
from train.data import sources as files
from train.data.block import Block, DataError
from train.data.encode import make_encoder
from train.data.splits import Source
from train.data.stream import Stream
from train.data.tokenize import Encoder

StreamFile = tuple[str, int]
"""Name and bytes of a file."""


@dataclass(frozen=True)
class Head(Source):
    """The first rows of a stream; for a tokenizer that is trained, as many as that needs."""

    whole: tuple[Source, ...] = ()

    @cached_property
    def digest(self) -> str:
        """What identifies the content: names and bytes of the files and the rows read here."""
        read = [[block.raw.hex(), [row.columns for row in block.rows]] for block in self.blocks()]
        parts = [[[source.name, source.size] for source in self.whole], read]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()

    def blocks(self) -> Iterator[Block]:
        return itertools.islice(blocks_of(self.whole[0]), 1)

    def texts(self, data: DataConfig) -> Iterator[str]:
        return itertools.chain.from_iterable(Source.texts(source, data) for source in self.whole)

    def in_words(self) -> str:
        """What the whole stream is."""
        if self.hub is not None:
            return f"the rows of {self.name}"
        return f"{len(self.whole)} files with {sum(source.size for source in self.whole) / (1 << 20):.1f} MiB"


def blocks_of(source: Source) -> Iterator[Block]:
    """All blocks of one source."""
    return files.blocks(Path(source.name)) if source.hub is None else files.hub_blocks(source.name, source.hub)


def head_of(sources: Sequence[Source]) -> Head:
    """The head of a stream with these sources (≥ 1)."""
    first = sources[0]
    return Head(first.name, min(first.size, files.BLOCK_BYTES), first.hub, whole=tuple(sources))


def stream_sources(data: DataConfig, listed: Sequence[StreamFile] = ()) -> list[Source]:
    """The sources of a stream, files in the order of their names.

    Args:
        listed: the files as the data step found them; ranks take these, since a shared folder may look different to
            each of them.

    Raises:
        DataError: there are none, or the hub cannot be reached.
    """
    if data.dataset_name is not None:
        return [Source(data.dataset_name, 0, _hub(data.dataset_name, data.dataset_config_name))]
    if listed:
        return [Source(name, size) for name, size in listed]
    given = Path(data.train_file or "")
    found = [given] if given.is_file() else shards(given)
    if not found:
        raise DataError(f"data.train_file={given}: no such file, and no folder or pattern with data files")
    return [Source(str(path), path.stat().st_size) for path in found]


def shards(given: Path) -> list[Path]:
    """The data files in a folder, or those whose name fits a pattern such as `part-*.jsonl`, in the order of names."""
    found = given.iterdir() if given.is_dir() else given.parent.glob(given.name)
    return sorted(path for path in found if path.is_file() and is_data_file(path))


def is_data_file(path: Path) -> bool:
    """Whether a file's name is one of data; hidden ones are none."""
    try:
        return bool(files.data_suffix(path)) and not path.name.startswith(".")
    except DataError:
        return False


def open_stream(config: RunConfig, listed: Sequence[StreamFile], tokenizer: Any) -> tuple[Stream, Encoder]:
    """The rows of a run's stream, and what makes documents of them.

    Raises:
        DataError: there are no rows, or the hub cannot be reached.
    """
    data = config.data
    sources = stream_sources(data, listed)
    encoder = make_encoder(head_of(sources), tokenizer, data, config.task.name, False, None)
    return Stream(sources, config.train.seed, data.shuffle_buffer), encoder


def _hub(name: str, config_name: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, config_name, split="train", streaming=True)
    except (OSError, ValueError) as error:
        raise DataError(f"data.dataset_name={name}: {error}") from error
