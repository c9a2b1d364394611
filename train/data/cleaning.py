"""What `data.clean` takes out of the training documents: a selection of places, in their order. Pure.

Rules come in this order: short documents, exact duplicates, near duplicates, leaks; each counts what it took. Of
documents that are the same the first is kept. Near duplicates are found by MinHash and locality-sensitive hashing,
which is approximate: similarities are estimated to about 0.09, and a few pairs are missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.schema import CleanConfig, Deduplicate
from train.data.documents import INPUT_HASH, LABELS, ROW_HASH, SIGNATURE, BoolArray, Documents, LongArray
from train.data.fingerprint import SCHEME

Hashes = npt.NDArray[np.uint64]

_MISSED_WEIGHTS = (0.2, 0.8)
"""How bad false candidates and missed ones are for the choice of bands: candidates are compared again anyway."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


def clean(
    documents: Documents, chosen: LongArray, config: CleanConfig, others: Sequence[Hashes]
) -> tuple[LongArray, dict[str, int]]:
    """The places among `chosen` (ascending) that stay, and how many documents each rule took.

    Args:
        others: `input_hash` of the documents of each other split.
    """
    kept, taken = chosen, dict[str, int]()

    def keep(rule: str, stays: BoolArray) -> None:
        nonlocal kept
        taken[rule] = int((~stays).sum())
        kept = kept[stays]

    if config.min_length > 0:
        keep("min_length", documents.lengths[kept] >= config.min_length)
    if config.deduplicate is not Deduplicate.none:
        keep("duplicates", first_of_each(row_identity(documents)[kept]))
    if config.deduplicate is Deduplicate.near:
        signatures, labels = documents.columns[SIGNATURE][kept], label_codes(documents)[kept]
        keep("near_duplicates", ~near_duplicates(signatures, labels, config.near_threshold))
    if config.drop_leaks:
        keep("leaks", ~leaks(documents.columns[INPUT_HASH][kept], others))
    return kept, taken


def row_identity(documents: Documents) -> Hashes:
    """A hash of each document's text and label."""
    rows: Hashes = documents.columns[ROW_HASH]
    return rows + label_codes(documents).astype(np.uint64) * _MIX


def label_codes(documents: Documents) -> LongArray:
    """A number for each label (or set of labels); 0 everywhere without labels."""
    labels = documents.columns.get(LABELS)
    if labels is None or not len(labels):
        return np.zeros(len(documents), np.int64)
    codes = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)[1]
    return np.asarray(codes, np.int64).reshape(-1)


def first_of_each(values: npt.NDArray[Any]) -> BoolArray:
    """Whether a value is there for the first time."""
    first = np.zeros(len(values), np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def leaks(inputs: Hashes, others: Sequence[Hashes]) -> BoolArray:
    """Whether an input is in one of the other splits too."""
    return np.isin(inputs, np.concatenate([np.zeros(0, np.uint64), *others]))


def contradictions(documents: Documents) -> int:
    """Documents whose input is there with another answer or label too."""
    inputs, rows = documents.columns[INPUT_HASH], row_identity(documents)
    _, inverse = np.unique(inputs, return_inverse=True)
    answers = np.unique(np.stack([inverse.astype(np.uint64), rows], axis=1), axis=0)[:, 0]
    several = np.bincount(answers.astype(np.int64), minlength=1) > 1
    return int(several[inverse].sum()) if len(inputs) else 0


def near_duplicates(signatures: npt.NDArray[np.uint32], labels: LongArray, threshold: float) -> BoolArray:
    """Whether a document is as similar as `threshold` to an earlier one that is kept and has the same label."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=signatures.shape[1], weights=_MISSED_WEIGHTS)
    found = np.zeros(len(signatures), np.bool_)
    for place, signature in enumerate(signatures):
        minhash = MinHash(num_perm=len(signature), hashvalues=signature, scheme=SCHEME)
        candidates = np.array([one for one in index.query(minhash) if labels[one] == labels[place]], np.int64)
        if len(candidates) and (signatures[candidates] == signature).mean(axis=1).max() >= threshold:
            found[place] = True
        else:
            index.insert(place, minhash, check_duplication=False)
    return found
