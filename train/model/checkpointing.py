"""Gradient checkpointing: which layers are computed again in the backward pass."""

from __future__ import annotations

from typing import Any

from train.methods.freezing import layer_stacks

FLAG = "gradient_checkpointing"
"""Attribute of transformers' `GradientCheckpointingLayer`."""


def compute_again(model: Any, interval: int) -> None:
    """Let every `interval`-th layer of each stack, the first among them, keep its input alone until it is needed."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if interval == 1:
        return
    for _, stack in layer_stacks(model):
        for place, layer in enumerate(stack):
            if place % interval:
                setattr(layer, FLAG, False)
