"""Memory of forward and backward of a real model class at its real size, under fake tensors: torch's own tracker.

Nothing is computed: `FakeTensorMode` gives every operation its result's shape, and `MemTracker` adds up what is alive.
Documents are packed as on a GPU, with one kernel for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoConfig, AutoModelForCausalLM

from train.model import attention, per_document
from train.model.loss import loss_sum


@dataclass(frozen=True)
class Tracked:
    """Bytes at the peak beside weights and their gradients, the tracker's own seconds, and its snapshot by category."""

    peak: int
    seconds: float


MODULE_HOOKS = ("_pre_fw_hook", "_post_fw_hook", "_pre_bw_hook", "_post_bw_hook")
"""Methods of torch's tracker that keep statistics of each module, which would take most of its time."""


def tracked(shape: Mapping[str, Any], tokens: int, checkpointing: bool = False, interval: int = 1) -> Tracked:
    """Forward and backward of a packed row of `tokens`, with gradients that are there already."""
    began = time.perf_counter()
    attention.register()
    per_document._flash_takes = lambda query: True  # fake tensors have no CUDA device to ask
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        config = AutoConfig.for_model(**shape)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention.NAME)
        model.config.use_cache = False
        model.train()
        if checkpointing:
            from train.model.checkpointing import compute_again

            compute_again(model, interval)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        batch = packed_row(tokens)
        tracker = MemTracker()
        for name in MODULE_HOOKS:
            setattr(tracker, name, lambda *_: None)
        tracker.track_external(model)
        with tracker:
            torch.autograd.backward(loss_sum(model, batch))
        peak = tracker.get_tracker_snapshot("peak")
    held = 2 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    total = max(int(amounts["Total"]) for amounts in peak.values())
    return Tracked(total - held, time.perf_counter() - began)


def packed_row(tokens: int) -> dict[str, Any]:
    """One document that fills a row, every token a target."""
    bounds = torch.tensor([0, tokens], dtype=torch.int32)
    return {
        "input_ids": torch.zeros(1, tokens, dtype=torch.long),
        "labels": torch.zeros(1, tokens, dtype=torch.long),
        "position_ids": torch.arange(tokens)[None],
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": tokens,
        "max_length_k": tokens,
        "target_positions": torch.arange(tokens),
    }
