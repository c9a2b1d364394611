"""Calling `generate` on an engine: on all weights at once where they fit on every rank, else in step with the others.

`generate` calls a model once a token. Under ZeRO-3 each call gathers all weights and needs all ranks; with the weights
gathered beforehand and ZeRO's hooks, which would take them apart again, out of the way, it needs neither.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from train.distributed import World
from train.engine import Engine
from train.export.proof import free_bytes
from train.model.parameters import whole_shape


@dataclass(frozen=True)
class Generator:
    """A model to ask for answers. `in_step`: every rank has to ask it equally often, with at least one row."""

    module: Any
    device: torch.device
    in_step: bool

    def generate(self, **inputs: Any) -> Tensor:
        """transformers' own `generate`: token ids (rows, tokens)."""
        ids: Tensor = self.module.generate(**inputs, synced_gpus=self.in_step)
        return ids


@contextlib.contextmanager
def generator(engine: Engine, world: World, ranks_of_memory: int) -> Iterator[Generator]:
    """What to ask for answers, while the engine does not train; a collective.

    Args:
        ranks_of_memory: ranks that share a memory: those of a node on CPUs, 1 with a GPU each.
    """
    if engine.zero_stage < 3:
        yield Generator(engine.module, engine.device, in_step=False)
    elif not fits(engine, world, ranks_of_memory):
        yield Generator(engine.module, engine.device, in_step=True)
    else:
        with engine.gathered(engine.module.parameters()), _without_hooks(engine.module):
            yield Generator(engine.module, engine.device, in_step=False)


def fits(engine: Engine, world: World, ranks_of_memory: int) -> bool:
    """Whether every rank has room for twice the weights: the weights, and what answering needs; a collective."""
    weights = sum(math.prod(whole_shape(one)) * one.element_size() for one in engine.module.parameters())
    return world.all_true(2 * ranks_of_memory * weights <= free_bytes(engine.device))


@contextlib.contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Within it DeepSpeed does not hear of forward passes. Its hooks keep their order, and those of others stay."""
    kept = []
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            kept.append((hooks, dict(hooks)))
            for key, hook in list(hooks.items()):
                if str(getattr(hook, "__module__", "")).startswith("deepspeed."):
                    del hooks[key]
    try:
        yield
    finally:
        for hooks, before in kept:
            hooks.clear()
            hooks.update(before)
