"""Documents as the tensors of a micro batch.

A micro batch is a dictionary; everything in it but what `NOT_INPUTS` names goes to the model as keyword arguments.
`labels` of a causal model are already shifted: the label at t is the token at t+1, and -100 where that is no target or
t is a document's last token. `target_positions` are for the loss, `documents` (a tuple of places in the split, which
the loader adds) for evaluation.

packed  input_ids, labels, position_ids (1, T); attention_mask (1, 1, 1, 1), all true; cu_seq_lens_q, cu_seq_lens_k
        (documents + 1,) int32; max_length_q, max_length_k int
padded  input_ids, labels, attention_mask (B, T)

No documents at all become one pad token with label -100.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from train.data.documents import Document, LongArray

IGNORED = -100
"""Label of a position that is no target, as torch's cross entropy spells it."""

MicroBatch = dict[str, Any]

NOT_INPUTS = frozenset({"labels", "target_positions", "documents"})
"""Parts of a micro batch that are not the model's."""


def inputs_of(micro_batch: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is called with."""
    return {name: value for name, value in micro_batch.items() if name not in NOT_INPUTS}


def target_positions(labels: torch.Tensor) -> torch.Tensor:
    """Positions (≥ 1 of them) at which some row of `labels` (B, T) has a target, int64, ascending."""
    positions = (labels != IGNORED).any(dim=0).nonzero().flatten()
    return positions if len(positions) else positions.new_zeros(1)


def shifted_labels(document: Document) -> LongArray:
    """Labels of one document, int64 (length,): the next token where it is a target, else -100."""
    labels = np.full(len(document.ids), IGNORED, np.int64)
    labels[:-1] = np.where(document.target_mask[1:], document.ids[1:], IGNORED)
    return labels


def packed_batch(documents: list[Document], pad_id: int) -> MicroBatch:
    """Documents end to end in one row."""
    if not documents:
        documents = [Document(np.array([pad_id]), np.zeros(1, np.bool_))]
    lengths = [len(document.ids) for document in documents]
    bounds = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return {
        "input_ids": torch.from_numpy(np.concatenate([document.ids for document in documents]))[None],
        "labels": torch.from_numpy(np.concatenate([shifted_labels(document) for document in documents]))[None],
        "position_ids": torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None],
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def padded_batch(documents: list[Document], pad_id: int) -> MicroBatch:
    """Documents as rows, padded on the right to the longest."""
    if not documents:
        documents = [Document(np.array([pad_id]), np.zeros(1, np.bool_))]
    shape = (len(documents), max(len(document.ids) for document in documents))
    ids = np.full(shape, pad_id, np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, document in enumerate(documents):
        length = len(document.ids)
        ids[row, :length] = document.ids
        labels[row, :length] = shifted_labels(document)
        mask[row, :length] = 1
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "attention_mask": torch.from_numpy(mask),
    }


def pinned(micro_batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The same in memory from which a GPU copies without waiting; elsewhere as it is."""
    if device.type != "cuda":
        return micro_batch
    return {name: value.pin_memory() if torch.is_tensor(value) else value for name, value in micro_batch.items()}


def to_device(micro_batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The same on the device."""
    if device.type != "cuda":
        return micro_batch
    return {
        name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
        for name, value in micro_batch.items()
    }
