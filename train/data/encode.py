"""One source into one cache folder: blocks out, tokens in, in the order of the source, by processes where it pays."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from conf.schema import DataConfig, Deduplicate, TaskName
from train.data.block import BadRow, Block, DataError
from train.data.documents import Writer
from train.data.labelled import LabelEncoder
from train.data.labels import Labelling
from train.data.pairs import PairEncoder
from train.data.prepared import Part
from train.data.splits import Source
from train.data.tokenize import Encoder, Tokens

POOL_BYTES = 8 << 20
"""Sources below this are encoded in this process: starting others takes longer."""

SHOWN_BAD_ROWS = 10
KEPT_BAD_ROWS = 1000

ENCODERS: dict[TaskName, type[Encoder]] = {TaskName.seq2seq_lm: PairEncoder}
"""Tasks whose documents are not one text."""

_encoder: Encoder | None = None


def encode_source(
    source: Source,
    tokenizer: Any,
    data: DataConfig,
    vocabulary: int,
    folder: Path,
    report: Callable[[str, int, int], None],
    task: TaskName = TaskName.causal_lm,
    training: bool = False,
    labelling: Labelling | None = None,
) -> Part:
    """Write the documents of a source into an empty folder; what became of its rows.

    Args:
        training: keep what training data is split and cleaned by (`data.split_column`, `data.clean`).
        labelling: how labels are read, of data that has them.

    Raises:
        DataError: a row breaks a rule that bears no exception, or more rows are broken than `data.max_bad_rows`.
    """
    encoder = make_encoder(source, tokenizer, data, task, training, labelling)
    counts: Counter[str] = Counter()
    longest, bad, drops_empty = 0, list[BadRow](), training and data.clean.drop_empty
    with Writer(folder, vocabulary) as writer:
        for part in _encoded(encoder, source, data.prepare_workers or len(os.sched_getaffinity(0))):
            writer.write(part.ids, part.mask, part.lengths, part.columns)
            bad += part.bad
            counts["empty"] += sum(row.empty for row in part.bad)
            if len(bad) - (counts["empty"] if drops_empty else 0) > data.max_bad_rows:
                raise DataError(bad_rows_in_words(bad, data.max_bad_rows))
            for name in ("rows", "truncated", "dropped", "without_targets"):
                counts[name] += getattr(part, name)
            counts["documents"] += len(part.lengths)
            counts["tokens"] += len(part.ids)
            counts["targets"] += int(part.mask.sum()) if labelling is None else len(part.lengths)
            longest = max(longest, *part.lengths.tolist(), 0)
            report(f"tokenising {source.name}", part.done, source.size)
    return Part(
        source=source.name,
        folder=str(folder),
        documents=counts["documents"],
        tokens=counts["tokens"],
        targets=counts["targets"],
        longest=longest,
        rows=counts["rows"],
        bad_rows=len(bad) - counts["empty"],
        empty=counts["empty"],
        truncated=counts["truncated"],
        dropped=counts["dropped"],
        without_targets=counts["without_targets"],
        bad=bad[:KEPT_BAD_ROWS],
    )


def make_encoder(
    source: Source, tokenizer: Any, data: DataConfig, task: TaskName, training: bool, labelling: Labelling | None
) -> Encoder:
    """What turns the blocks of a source into documents of a task.

    Raises:
        DataError: the columns do not fit the task.
    """
    near = training and data.clean.deduplicate is Deduplicate.near
    shape, group_column = source.shape(data), data.split_column if training else None
    if labelling is not None:
        codes = source.codes(data)
        return LabelEncoder(tokenizer, shape, data, group_column, near, labelling=labelling, codes=codes)
    return ENCODERS.get(task, Encoder)(tokenizer, shape, data, group_column, near)


def bad_rows_in_words(bad: list[BadRow], budget: int, count: int | None = None) -> str:
    """The first broken rows, and the rule."""
    count = len(bad) if count is None else count
    shown = "\n".join(f"  {row}" for row in bad[:SHOWN_BAD_ROWS])
    more = f"\n  and {count - SHOWN_BAD_ROWS} more" if count > SHOWN_BAD_ROWS else ""
    return f"{count} broken rows, data.max_bad_rows={budget} are tolerated:\n{shown}{more}"


def _encoded(encoder: Encoder, source: Source, workers: int) -> Iterator[Tokens]:
    if workers == 1 or (source.hub is None and source.size < POOL_BYTES):
        yield from map(encoder.encode, source.blocks())
        return
    # The encoder reaches the workers by the fork; their tokenizers use one thread each.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, initializer=_enter_worker, initargs=(encoder,)) as pool:
        pending: deque[Future[Tokens]] = deque()
        try:
            for block in source.blocks():
                pending.append(pool.submit(_encode, block))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _enter_worker(encoder: Encoder) -> None:
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _encoder = encoder


def _encode(block: Block) -> Tokens:
    if _encoder is None:
        raise RuntimeError("a worker encodes only after _enter_worker")
    return _encoder.encode(block)
