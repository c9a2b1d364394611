"""The batches of a stream for one rank: as `batches.Loader` has them of documents on disk, without an end.

A step takes the next `global_batch_size` documents of the stream, whatever the ranks and the micro batch; its position
after each step travels in checkpoints. It does not know DeepSpeed or the model.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import torch

from conf.record import Batch
from conf.schema import RunConfig, TaskName
from train.data import packing
from train.data.ahead import ahead
from train.data.batches import READ_AHEAD, Step
from train.data.block import BadRow
from train.data.documents import Document
from train.data.stream import Position, Stream
from train.data.stream_documents import Exchange, Portion, StreamDocuments
from train.data.tensors import MicroBatch, pinned, to_device
from train.data.tokenize import Encoder


class StreamLoader:
    """The training batches of one rank.

    Args:
        stream: the rows, the same on every rank.
        encoder: what makes documents of them.
        exchange: how ranks tell each other of their shares.
        report: hears of every broken row once, from whoever asks for steps.
        batch, rank, world, device, collate, packed: as of `Loader`.
    """

    def __init__(
        self,
        stream: Stream,
        encoder: Encoder,
        config: RunConfig,
        batch: Batch,
        rank: int,
        world: int,
        device: torch.device,
        collate: Callable[[list[Document]], MicroBatch],
        packed: bool,
        exchange: Exchange,
        report: Callable[[BadRow], None],
    ):
        self._stream, self._encoder, self._exchange, self._report = stream, encoder, exchange, report
        self._data, self._batch = config.data, batch
        self._rank, self._world = rank, world
        self._device, self._collate, self._packed = device, collate, packed
        self._paired = config.task.name is TaskName.seq2seq_lm
        self._start = Position()
        self.units, self.units_per_step = math.inf, batch.global_batch_size

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Optimizer steps of the run: `max_steps`; no plan has a stream without.

        Raises:
            ValueError: it is not given.
        """
        if max_steps is None:
            raise ValueError("data.streaming needs train.max_steps: a stream has no end")
        return max_steps

    def go_on(self, place: Mapping[str, Any] | None) -> None:
        """Begin after the step that gave this `place`."""
        self._start = Position() if place is None else msgspec.convert(place, Position)

    def longest(self) -> MicroBatch:
        """A micro batch as large as any may become, for the rehearsal: what comes is not known."""
        before, length = 1, self._data.max_length
        if self._paired:
            before, length = length, length + self._data.max_target_length
        document = Document(np.zeros(length, np.int64), np.arange(length) >= before)
        return to_device(self._tensors([document] * self._batch.micro_batch_size), self._device)

    def steps(self, first_step: int, last_step: int) -> Iterator[Step]:
        """Steps `first_step` to `last_step`, both included, from the position of `go_on` on, made ahead in a thread.

        Raises:
            DataError: more rows are broken than `data.max_bad_rows`, or there are no documents.
        """
        documents = StreamDocuments(
            self._stream, self._encoder, self._data, self._rank, self._world, self._exchange, self._start
        )

        def made(number: int) -> tuple[Step, list[BadRow]]:
            portion = documents.take(self._batch.global_batch_size)
            return self._step(number, portion), portion.bad

        numbers = range(first_step, last_step + 1)
        steps = ahead(made, numbers, READ_AHEAD, self._device, finish=True)
        with contextlib.closing(documents), contextlib.closing(steps):
            for step, bad in steps:
                for row in bad:
                    self._report(row)
                step.micro_batches[:] = [to_device(batch, self._device) for batch in step.micro_batches]
                yield step

    def _step(self, number: int, portion: Portion) -> Step:
        documents, place = portion.documents, portion.position.place
        lengths = [len(document.ids) for document in documents]
        micro = self._batch.micro_batch_size
        if self._packed:
            layout = packing.lay_out(lengths, self._world, micro * self._data.max_length)
        else:
            layout = packing.lay_out_padded(lengths, self._world, micro)
        return Step(
            number=number,
            epoch=place.epoch + place.passed,
            micro_batches=[self._tensors([documents[index] for index in row]) for row in layout[self._rank]],
            target_tokens=sum(int(document.target_mask.sum()) for document in documents),
            tokens=sum(lengths),
            documents=len(documents),
            useful_share=packing.useful_share(layout, lengths, padded=not self._packed),
            place=msgspec.to_builtins(portion.position),
        )

    def _tensors(self, documents: list[Document]) -> MicroBatch:
        return pinned({**self._collate(documents), "documents": ()}, self._device)
