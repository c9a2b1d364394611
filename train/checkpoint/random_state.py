"""The random generators of a rank, on disk: dropout goes on after a resume where it stopped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from train.checkpoint.storage import WrittenFile, hashed_file


def write(folder: Path, rank: int) -> WrittenFile:
    """Write this rank's generators: Python's, numpy's, torch's and the device's."""
    path = _path(folder, rank)
    with hashed_file(path) as file:
        torch.save(_capture(), cast("BinaryIO", file))
    return WrittenFile(path.name, file.size, file.sha256)


def read(folder: Path, rank: int) -> None:
    """Set this rank's generators as `write` found them. The file has to be verified before."""
    state: dict[str, Any] = torch.load(_path(folder, rank), map_location="cpu", weights_only=False)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["device"])


def _capture() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _path(folder: Path, rank: int) -> Path:
    return folder / f"random-{rank:05d}.pt"
