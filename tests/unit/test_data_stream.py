"""Streams: the same documents at every step whatever the ranks, any place found again, broken rows, bounded reading."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
import torch

from conf.record import Batch
from conf.schema import LongRows, RunConfig
from train.data.block import BadRow, DataError
from train.data.documents import Document
from train.data.stream import Position, Stream
from train.data.stream_batches import StreamLoader
from train.data.stream_sources import open_stream, stream_sources
from train.data.tensors import MicroBatch
from train.data.tokenizer import complete_tokenizer, train_tokenizer

ROWS = 90
BATCH = 8


def texts(first: int, count: int) -> list[dict[str, Any]]:
    return [{"text": f"{number:03d}" + "x" * (number % 11)} for number in range(first, first + count)]


def write_shards(folder: Path) -> Path:
    """Ninety rows in a file of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [b"".join(json.dumps(row).encode() + b"\n" for row in texts(15 * part, 15)) for part in range(6)]
    (folder / "0.jsonl").write_bytes(lines[0])
    (folder / "1.jsonl").write_bytes(b"\xef\xbb\xbf\n" + lines[1].rstrip())
    (folder / "2.jsonl.gz").write_bytes(gzip.compress(lines[2]))
    (folder / "3.json").write_text(json.dumps(texts(45, 15)))
    (folder / "4.csv").write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in texts(60, 15)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts(75, 15)), folder / "5.parquet", row_group_size=4)
    (folder / "README.md").write_text("no data")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = RunConfig()
    config.data.streaming = True
    config.data.train_file = str(write_shards(tmp_path / "shards"))
    config.data.shuffle_buffer = 20
    config.data.max_length = 24
    return config


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = train_tokenizer(["0123456789x"], 260)
    complete_tokenizer(made, None)
    return made


def exchanges(world: int) -> list[Callable[[Any], list[Any]]]:
    """Ranks as threads of this process: each gives a value and gets those of all."""
    barrier, values = threading.Barrier(world), [None] * world

    def of(rank: int) -> Callable[[Any], list[Any]]:
        def exchange(value: Any) -> list[Any]:
            values[rank] = value
            barrier.wait(30)
            found = list(values)
            barrier.wait(30)
            return found

        return exchange

    return [of(rank) for rank in range(world)]


def collate(documents: list[Document]) -> MicroBatch:
    return {"texts": [tuple(document.ids.tolist()) for document in documents]}


def loaders(
    config: RunConfig,
    tokenizer: Any,
    world: int = 1,
    micro: int = 2,
    packed: bool = True,
    heard: list[BadRow] | None = None,
) -> list[StreamLoader]:
    batch = Batch(world, BATCH, micro, max(1, BATCH // (micro * world)))
    made = []
    for rank, exchange in enumerate(exchanges(world)):
        stream, encoder = open_stream(config, [], tokenizer)
        report = heard.append if heard is not None and rank == 0 else lambda row: None
        place = rank, world, torch.device("cpu")
        made.append(StreamLoader(stream, encoder, config, batch, *place, collate, packed, exchange, report))
    return made


def documents_of_steps(made: list[StreamLoader], last: int, first: int = 1) -> list[list[tuple[int, ...]]]:
    """The documents of each step over all ranks, sorted."""

    def of_rank(loader: StreamLoader) -> list[list[tuple[int, ...]]]:
        steps = list(loader.steps(first, last))
        assert [step.number for step in steps] == list(range(first, last + 1))
        assert {len(step.micro_batches) for step in steps} != {0}
        return [[text for batch in step.micro_batches for text in batch["texts"]] for step in steps]

    with ThreadPoolExecutor(len(made)) as pool:
        ranks = list(pool.map(of_rank, made))
    steps = [[*itertools.chain(*step)] for step in zip(*ranks, strict=True)]
    return [sorted(step) for step in steps]


@pytest.mark.parametrize("on_long", [LongRows.truncate, LongRows.drop, LongRows.split])
def test_every_step_has_the_same_documents_on_any_ranks_in_any_layout(
    config: RunConfig, tokenizer: Any, on_long: LongRows
) -> None:
    """Rows that give no document, or several, move the bounds of steps."""
    config.data.on_long, config.data.max_length = on_long, 9
    alone = documents_of_steps(loaders(config, tokenizer), 15)
    assert {len(step) for step in alone} == {BATCH}
    for world, micro, packed in ((2, 1, True), (4, 2, True), (2, 4, False), (4, 1, False)):
        assert documents_of_steps(loaders(config, tokenizer, world, micro, packed), 15) == alone


def test_an_epoch_has_every_row_once_and_the_next_another_order(config: RunConfig, tokenizer: Any) -> None:
    stream, _ = open_stream(config, [], tokenizer)
    with_places = list(itertools.islice(stream.rows(Position()), 2 * ROWS))
    orders = [[(row.file, row.line) for place, _, row in with_places if place.epoch == epoch] for epoch in (0, 1)]
    assert len(set(orders[0])) == ROWS
    assert sorted(orders[0]) == sorted(orders[1]) != orders[0]
    assert orders[0] != orders[1]
    files = [
        [file for file, _ in itertools.groupby(row[0] for row in sorted_by_chunk(with_places, epoch))]
        for epoch in (0, 1)
    ]
    assert files[0] != files[1]


def sorted_by_chunk(rows: list[Any], epoch: int) -> Iterator[tuple[str, int]]:
    found = [(place.chunk, row.file, row.line) for place, _, row in rows if place.epoch == epoch]
    return ((file, line) for _, file, line in found)


def test_the_seed_decides_the_order(config: RunConfig, tokenizer: Any) -> None:
    first = documents_of_steps(loaders(config, tokenizer), 3)
    assert documents_of_steps(loaders(config, tokenizer), 3) == first
    config.train.seed += 1
    assert documents_of_steps(loaders(config, tokenizer), 3) != first


@pytest.mark.parametrize("on_long", [LongRows.truncate, LongRows.split])
def test_every_place_is_found_again(config: RunConfig, tokenizer: Any, on_long: LongRows) -> None:
    config.data.on_long, config.data.max_length = on_long, 6
    [loader] = loaders(config, tokenizer)
    steps = list(loader.steps(1, 30))
    wanted = [batch for step in steps for batch in step.micro_batches]
    for stopped in (1, 7, 12, 23):
        [again] = loaders(config, tokenizer)
        again.go_on(msgspec.json.decode(msgspec.json.encode(steps[stopped - 1].place)))
        later = list(again.steps(stopped + 1, 30))
        assert [step.place for step in later] == [step.place for step in steps[stopped:]]
        assert [step.epoch for step in later] == [step.epoch for step in steps[stopped:]]
        assert [batch for step in later for batch in step.micro_batches] == wanted[-sum(map(_micro_batches, later)) :]


def _micro_batches(step: Any) -> int:
    return len(step.micro_batches)


def test_what_lies_before_a_place_is_not_decoded(tmp_path: Path, config: RunConfig, tokenizer: Any) -> None:
    """A place deep in a file is gone on from although what lies before was spoiled since."""
    path = tmp_path / "one.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in texts(0, 100)))
    config.data.train_file = str(path)
    [loader] = loaders(config, tokenizer)
    steps = list(loader.steps(1, 8))
    assert steps[6].place is not None
    content, offset = bytearray(path.read_bytes()), steps[6].place["place"]["offset"]
    assert offset > 100
    content[10:60] = b"\xff" * 50
    path.write_bytes(bytes(content))
    [again] = loaders(config, tokenizer)
    again._encoder = loader._encoder
    again.go_on(steps[6].place)
    assert next(again.steps(8, 8)).micro_batches == steps[7].micro_batches


def test_broken_rows_are_named_once_and_counted_over_stops(tmp_path: Path, config: RunConfig, tokenizer: Any) -> None:
    path = tmp_path / "bad.jsonl"
    lines = [json.dumps(row).encode() for row in texts(0, 40)]
    lines[12], lines[30] = b"{oops", b'{"text": 5}'
    path.write_bytes(b"\n".join(lines))
    config.data.train_file, config.data.max_bad_rows = str(path), 2
    heard: list[BadRow] = []
    documents_of_steps(loaders(config, tokenizer, 2, heard=heard), 4)
    steps = list(loaders(config, tokenizer, heard=heard)[0].steps(1, 4))
    assert [{(row.file, row.line) for row in heard[start : start + 2]} for start in (0, 2)] == [
        {(str(path), 13), (str(path), 31)}
    ] * 2
    assert steps[-1].place is not None
    assert steps[-1].place["bad"] == 2
    [again] = loaders(config, tokenizer)
    again.go_on(steps[-1].place)
    with pytest.raises(DataError, match=r"3 broken rows, data.max_bad_rows=2 are tolerated:\n  .*bad.jsonl:(13|31): "):
        list(again.steps(5, 30))


def test_one_rank_that_cannot_go_on_ends_all_with_its_word(config: RunConfig, tokenizer: Any) -> None:
    config.data.on_long, config.data.max_length = LongRows.error, 14
    made = loaders(config, tokenizer, 4, 2)

    def word(loader: StreamLoader) -> str:
        with pytest.raises(DataError) as raised:
            list(loader.steps(1, 30))
        return str(raised.value)

    with ThreadPoolExecutor(4) as pool:
        words = set(pool.map(word, made))
    [said] = words
    assert "tokens are more than data.max_length=14" in said


def test_no_rows_and_no_files_are_said(tmp_path: Path, config: RunConfig, tokenizer: Any) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    config.data.train_file = str(empty)
    with pytest.raises(DataError, match="no such file, and no folder or pattern with data files"):
        open_stream(config, [], tokenizer)
    (empty / "a.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no rows"):
        next(Stream(stream_sources(config.data), 0, 10).rows(Position()))
    (empty / "b.jsonl").write_text('{"text": "a"}\n')
    config.data.train_file = str(empty / "b*.jsonl")
    assert [Path(source.name).name for source in stream_sources(config.data)] == ["b.jsonl"]


def test_little_more_than_two_chunks_is_read_ahead(tmp_path: Path, config: RunConfig, tokenizer: Any) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for part in range(40):
        (folder / f"{part:02d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts(20 * part, 20)))
    config.data.train_file = str(folder)
    [loader] = loaders(config, tokenizer)
    read: list[int] = []
    steps = loader.steps(1, 1000)
    next(steps)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read.extend(step.number for step in steps)
    assert len(read) < 12


def test_a_hub_set_is_streamed(tmp_path: Path, config: RunConfig, tokenizer: Any) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts(0, 50)))
    config.data.train_file, config.data.dataset_name = None, str(folder)
    alone = documents_of_steps(loaders(config, tokenizer), 8)
    assert documents_of_steps(loaders(config, tokenizer, 2), 8) == alone
    steps = list(loaders(config, tokenizer)[0].steps(1, 8))
    [again] = loaders(config, tokenizer)
    again.go_on(steps[4].place)
    assert documents_of_steps([again], 8, 6) == alone[5:]
