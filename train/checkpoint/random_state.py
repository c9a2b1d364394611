"""The random generators of a rank: dropout goes on after a resume where it stopped."""

from __future__ import annotations

import errno
import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """This rank's generators: Python's, numpy's, torch's and the device's."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def read(folder: Path, rank: int, readable: frozenset[Path]) -> None:
    """Set this rank's generators as `capture` found them.

    Raises:
        PermissionError: the file is not among `readable`, those that the caller verified: unpickling runs code.
    """
    path = path_of(folder, rank)
    if path not in readable:
        raise PermissionError(errno.EPERM, "not a verified file of this checkpoint", str(path))
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["device"])


def seed(words: str) -> None:
    """Seed this rank's generators by a text: for a rank that did not save, the same at every attempt."""
    number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
    random.seed(number)
    np.random.seed(number % (1 << 32))
    torch.manual_seed(number)


def path_of(folder: Path, rank: int) -> Path:
    """Where a rank's generators are kept."""
    return folder / f"random-{rank:05d}.pt"
