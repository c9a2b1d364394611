"""Another checkpoint of the run into its engine, in the middle of an attempt."""

from __future__ import annotations

import gc
from typing import Any

import torch

from train.assembly import assemble
from train.checkpoint import checkpoint
from train.checkpoint.checkpoint import CheckpointInfo
from train.data.prepared import read_prepared
from train.training import Training


def reload(training: Training, info: CheckpointInfo) -> dict[str, Any]:
    """Weights, optimizer and random states of a verified checkpoint; returns what it says of the run; a collective.

    They go into a new engine: under ZeRO-3 one that has saved takes none.
    """
    training.journal.phase("load")
    # The old engine's memory is needed for the new one. Batches go on to be collated by the old task.
    training.task.generation = None
    training.engine.close()
    del training.engine, training.task
    gc.collect()
    if training.world.device.type == "cuda":
        torch.cuda.empty_cache()
    data = read_prepared(training.folder)
    assembly = assemble(training.plan, training.layout, training.folder, data, training.world)
    training.engine, training.task = assembly.engine, assembly.task
    return checkpoint.load(training.engine, info, training.world, training.journal)
