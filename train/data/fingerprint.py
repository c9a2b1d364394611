"""What tells rows from each other: hashes of their text, the hash of a column's value, and MinHash signatures.

Texts are compared in Unicode's composed form with runs of white space as one space; capitals count. The hashes have 64
bits: among a hundred million rows, two that differ have the same one with a chance of 1 in 3,700.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from train.data.documents import INPUT_HASH, ROW_HASH, SIGNATURE

PERMUTATIONS = 128
"""Of a MinHash signature; the estimated similarity of two rows is off by about 1 / √128 ≈ 0.09 at most times."""

SCHEME = "affine32"
"""Which of datasketch's families of hash functions a signature is made of."""

SHINGLE_WORDS = 5
_SEED = 1

Piece = tuple[str, bool]
"""A piece of text, and whether it is a target."""


def fingerprints(texts: Sequence[Sequence[Piece]], near: bool) -> dict[str, npt.NDArray[Any]]:
    """Columns of documents by their pieces: `row_hash` of the whole text and `input_hash` of what is no target.

    The input of a row that is all target, such as plain text, is the whole of it. `near` adds the MinHash `signature`.
    """
    whole = [_normalised("".join(text for text, _ in pieces)) for pieces in texts]
    given = [_normalised("".join(text for text, target in pieces if not target)) for pieces in texts]
    columns: dict[str, npt.NDArray[Any]] = {
        ROW_HASH: _hashes(whole),
        INPUT_HASH: _hashes([before or text for before, text in zip(given, whole, strict=True)]),
    }
    return columns | ({SIGNATURE: signatures(whole)} if near else {})


def value_hash(value: Any) -> int:
    """64 bits of a column's value, which JSON can hold."""
    return _hash(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def signatures(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """MinHash of each text over its runs of five words, uint32 (texts, 128); equal positions ≈ Jaccard similarity."""
    from datasketch import MinHash

    empty = MinHash(num_perm=PERMUTATIONS, seed=_SEED, scheme=SCHEME)
    made = np.zeros((len(texts), PERMUTATIONS), np.uint32)
    for row, text in enumerate(texts):
        signature = empty.copy()
        signature.update_batch([shingle.encode() for shingle in shingles(text)])
        made[row] = signature.hashvalues
    return made


def shingles(text: str) -> list[str]:
    """Every run of five words in lower case; the whole text where it has no more than that."""
    words = text.lower().split()
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return [" ".join(words[start : start + SHINGLE_WORDS]) for start in starts]


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([_hash(text) for text in texts], np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
