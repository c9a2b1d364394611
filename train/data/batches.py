"""From prepared documents to the tensors of a step, for one rank, read ahead in a thread.

A rank without documents in a micro batch gets one pad token with label -100 (`tensors`). It does not know DeepSpeed or
the model.
"""

from __future__ import annotations

import contextlib
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from conf.record import Batch
from conf.schema import Packing, RunConfig, TaskName
from train.data import order, packing
from train.data.ahead import ahead
from train.data.documents import Document, Documents, LongArray
from train.data.tensors import IGNORED, MicroBatch, pinned, to_device

__all__ = ["IGNORED", "Loader", "MicroBatch", "Step"]

READ_AHEAD = 2
"""Steps prepared before they are asked for."""

EVALUATION_WINDOW = 1024
"""Documents laid out together in evaluation."""


@dataclass(frozen=True)
class Step:
    """One rank's part of a step; `epoch`, `target_tokens`, `tokens` and `documents` count over all ranks.

    `epoch` is the number of passes over the data after this step.
    """

    number: int
    epoch: float
    micro_batches: list[MicroBatch]
    target_tokens: int
    tokens: int
    documents: int
    useful_share: float
    place: Mapping[str, Any] | None = None
    """Where the step after this one goes on, for checkpoints; None where that follows from the number alone."""


class TrainingBatches(Protocol):
    """What the loop trains on: `Loader`, or `stream_batches.StreamLoader` where the data has no end."""

    @property
    def units(self) -> float:
        """What an epoch consists of; infinite where that is not known."""
        ...

    units_per_step: int

    def total_steps(self, epochs: float, max_steps: int | None) -> int: ...

    def steps(self, first_step: int, last_step: int) -> Iterator[Step]: ...

    def longest(self) -> MicroBatch: ...

    def go_on(self, place: Mapping[str, Any] | None) -> None:
        """Begin after the step that gave this `place`."""
        ...


class Loader:
    """The batches of one split for one rank.

    Args:
        documents: the split.
        config: the run's configuration; `data.max_length`, `data.packing` and `train.seed` are used.
        batch: global and micro batch size.
        rank, world: this rank and their number.
        device: where the tensors go; with a GPU they are pinned and copied without waiting.
        collate: the tensors of a micro batch's documents (`train.tasks`).
        packed: lay documents end to end (`data.packing` says how); else pad.
    """

    def __init__(
        self,
        documents: Documents,
        config: RunConfig,
        batch: Batch,
        rank: int,
        world: int,
        device: torch.device,
        collate: Callable[[list[Document]], MicroBatch],
        packed: bool,
    ):
        self.documents = documents
        self._seed = config.train.seed
        self._max_length = config.data.max_length
        self._batch = batch
        self._rank, self._world = rank, world
        self._device, self._collate = device, collate
        self._packed, self._paired = packed, config.task.name is TaskName.seq2seq_lm
        self._dense = packed and config.data.packing is Packing.dense
        self._dense_rows = lru_cache(maxsize=2)(self._pack_epoch)
        self.units = len(self._dense_rows(0)) if self._dense else len(documents)
        """What an epoch consists of: documents, or rows with dense packing."""
        self._epoch_ends = [self.units]
        self.units_per_step = self._rows_per_step() if self._dense else batch.global_batch_size

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Optimizer steps of a run: `max_steps` where given, else enough for `epochs` passes."""
        return order.total_steps(self.units, self.units_per_step, epochs, max_steps)

    def go_on(self, place: Mapping[str, Any] | None) -> None:
        """Nothing to do: the number of a step says which documents it has."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every document was seen once."""
        return order.steps_per_epoch(self.units, self.units_per_step)

    def steps(self, first_step: int, last_step: int) -> Iterator[Step]:
        """Steps `first_step` to `last_step`, both included and counted from 1, made ahead in a thread."""
        numbers = range(first_step, last_step + 1)
        with contextlib.closing(ahead(self.step, numbers, READ_AHEAD, self._device)) as steps:
            for step in steps:
                yield replace(step, micro_batches=[to_device(batch, self._device) for batch in step.micro_batches])

    def step(self, number: int) -> Step:
        """One step, with its tensors in host memory."""
        chosen, layout = self._dense_step(number) if self._dense else self._exact_step(number)
        lengths = self.documents.lengths[chosen]
        return Step(
            number=number,
            epoch=number * self.units_per_step / self.units,
            micro_batches=[self._micro_batch(chosen[list(row)]) for row in layout[self._rank]],
            target_tokens=int(self.documents.targets[chosen].sum(dtype=np.int64)),
            tokens=int(lengths.sum(dtype=np.int64)),
            documents=len(chosen),
            useful_share=packing.useful_share(layout, lengths, padded=not self._packed),
        )

    def longest(self) -> MicroBatch:
        """A micro batch at least as large as any the run will meet, the same on all ranks, for the rehearsal."""
        if self._paired:
            pairs = longest_pairs(self.documents, self._batch.micro_batch_size)
            return to_device(self._tensors(pairs), self._device)
        longest_first = np.argsort(-self.documents.lengths.astype(np.int64), kind="stable")
        if not self._packed:
            return to_device(self._micro_batch(longest_first[: self._batch.micro_batch_size]), self._device)
        lengths = self.documents.lengths[longest_first].astype(np.int64)
        capacity = self._batch.micro_batch_size * self._max_length
        if not self._dense:
            # A row that is filled emptiest first holds at most the mean of all rows and one document more.
            mean = -(-int(lengths[: self._batch.global_batch_size].sum()) // self._world)
            capacity = min(capacity, mean + int(lengths[0]))
        count = int(np.searchsorted(np.cumsum(lengths), capacity)) + 1
        documents = [self.documents[index] for index in longest_first[:count]]
        excess = sum(len(document.ids) for document in documents) - capacity
        if excess > 0:
            last = documents.pop()
            documents.append(Document(last.ids[:-excess], last.target_mask[:-excess]))
        return to_device(self._tensors(documents), self._device)

    def evaluation(self, micro: int) -> Iterator[MicroBatch]:
        """This rank's micro batches of the whole split, `micro` documents (packed: rows of `max_length`) each.

        Each document comes once over all ranks; each rank gets the same number of micro batches.
        """
        rows = self._evaluation_rows(micro)
        with contextlib.closing(ahead(self._micro_batch, rows, READ_AHEAD, self._device)) as batches:
            for batch in batches:
                yield to_device(batch, self._device)

    def _evaluation_rows(self, micro: int) -> Iterator[LongArray]:
        window = max(EVALUATION_WINDOW, self._world * micro)
        for start in range(0, len(self.documents), window):
            lengths = self.documents.lengths[start : start + window]
            if self._packed:
                layout = packing.lay_out(lengths, self._world, micro * self._max_length)
            else:
                layout = packing.lay_out_padded(lengths, self._world, micro)
            for row in layout[self._rank]:
                yield np.array(row, np.int64) + start

    def _exact_step(self, number: int) -> tuple[LongArray, packing.Layout]:
        chosen = order.documents_of_step(self.documents.mix, self._batch.global_batch_size, self._seed, number)
        lengths, micro = self.documents.lengths[chosen], self._batch.micro_batch_size
        if self._packed:
            return chosen, packing.lay_out(lengths, self._world, micro * self._max_length)
        return chosen, packing.lay_out_padded(lengths, self._world, micro)

    def _dense_step(self, number: int) -> tuple[LongArray, packing.Layout]:
        position, end = (number - 1) * self.units_per_step, number * self.units_per_step
        rows: list[packing.Row] = []
        while position < end:
            epoch, offset = self._epoch_at(position)
            part = self._dense_rows(epoch)[offset : offset + end - position]
            rows.extend(part)
            position += len(part)
        chosen = np.array([index for row in rows for index in row], np.int64)
        bounds = np.cumsum([0, *(len(row) for row in rows)])
        places = [tuple(range(int(start), int(stop))) for start, stop in itertools.pairwise(bounds)]
        lengths = self.documents.lengths[chosen]
        return chosen, packing.deal_rows(places, lengths, self._world, self._batch.micro_batch_size)

    def _epoch_at(self, position: int) -> tuple[int, int]:
        """Epoch of a row and its place there; epochs differ in rows by a little, so they are added up."""
        while position >= self._epoch_ends[-1]:
            self._epoch_ends.append(self._epoch_ends[-1] + len(self._dense_rows(len(self._epoch_ends))))
        epoch = bisect_right(self._epoch_ends, position)
        return epoch, position - (self._epoch_ends[epoch - 1] if epoch else 0)

    def _pack_epoch(self, epoch: int) -> list[packing.Row]:
        sequence = order.mixed_order(self.documents.mix, self._seed, epoch)
        return packing.pack_densely(sequence, self.documents.lengths, self._max_length)

    def _rows_per_step(self) -> int:
        """Rows that hold about `global_batch_size` documents: a round number in binary, whatever the ranks.

        Steps must not depend on the world size, or a resume elsewhere would lose its place; a multiple of the largest
        power of two up to a quarter of the rows fills the ranks there usually are.
        """
        rows = max(1, round(self._batch.global_batch_size * self.units / len(self.documents)))
        grain = 1 << max(0, rows.bit_length() - 3)
        return max(1, round(rows / grain)) * grain

    def _micro_batch(self, chosen: LongArray) -> MicroBatch:
        return self._tensors([self.documents[index] for index in chosen], tuple(chosen.tolist()))

    def _tensors(self, documents: list[Document], places: tuple[int, ...] = ()) -> MicroBatch:
        return pinned({**self._collate(documents), "documents": places}, self._device)


def longest_pairs(documents: Documents, count: int) -> list[Document]:
    """Documents of the longest sources and the longest targets, which need not have come together."""
    sources = documents.lengths - documents.targets
    by_source, by_target = (np.argsort(-sizes, kind="stable")[:count] for sizes in (sources, documents.targets))
    pairs = []
    for source, target in zip(by_source, by_target, strict=True):
        asked, answer = documents[source].prompt, documents[target]
        answer = answer.ids[len(answer.prompt) :]
        mask = np.arange(len(asked) + len(answer)) >= len(asked)
        pairs.append(Document(np.concatenate([asked, answer]), mask))
    return pairs
