"""The script a person writes by hand: a DeepSpeed engine in a loop, started with torchrun.

Reads a folder made by `benchmarks.inputs` and trains on the same documents in the same order as Muster does. `--layout
flattening` lays the documents of a micro batch end to end with restarting position ids, as transformers'
DataCollatorWithFlattening does, with transformers' own attention.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig


def micro_batch(documents: list[tuple[np.ndarray, np.ndarray]], layout: str) -> dict[str, torch.Tensor]:
    """Tensors of some documents: labels are shifted, so that label t belongs to the logits at t."""
    rows = [(ids, np.append(np.where(mask, ids, -100)[1:], -100)) for ids, mask in documents]
    if layout == "flattening":
        return {
            "input_ids": torch.from_numpy(np.concatenate([ids for ids, _ in rows])[None].astype(np.int64)),
            "labels": torch.from_numpy(np.concatenate([labels for _, labels in rows])[None].astype(np.int64)),
            "position_ids": torch.from_numpy(np.concatenate([np.arange(len(ids)) for ids, _ in rows])[None]),
        }
    width = max(len(ids) for ids, _ in rows)

    def padded(values: np.ndarray, fill: int) -> np.ndarray:
        return np.pad(values.astype(np.int64), (0, width - len(values)), constant_values=fill)

    return {
        "input_ids": torch.from_numpy(np.stack([padded(ids, 0) for ids, _ in rows])),
        "labels": torch.from_numpy(np.stack([padded(labels, -100) for _, labels in rows])),
        "attention_mask": torch.from_numpy(np.stack([padded(np.ones(len(ids)), 0) for ids, _ in rows])),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--layout", choices=["padded", "flattening"], default="padded")
    arguments = parser.parse_args()
    settings: dict[str, Any] = json.loads((arguments.inputs / "settings.json").read_text())
    arrays = np.load(arguments.inputs / "documents.npz")
    bounds = arrays["offsets"]

    def document(index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(bounds[index], bounds[index + 1])
        return arrays["ids"][part], arrays["mask"][part]

    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    micro = settings["micro_batch_size"]
    config = {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": settings["precision"] == "bf16"},
        "zero_optimization": {"stage": settings["zero_stage"]},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    alive = HfDeepSpeedConfig(config)  # transformers loads sharded as long as this object lives
    dtype = torch.bfloat16 if settings["precision"] == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arguments.inputs / "model", dtype=dtype, attn_implementation="sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.0)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    del alive
    losses, ends = [], []
    for chosen in arrays["order"]:
        documents = [document(i) for i in chosen]
        targets = sum(int(mask[1:].sum()) for _, mask in documents)
        mine = documents[rank::world]
        total = torch.zeros((), device=engine.device)
        starts = range(0, len(mine), micro)
        for start in starts:
            batch = {
                k: v.to(engine.device) for k, v in micro_batch(mine[start : start + micro], arguments.layout).items()
            }
            labels = batch.pop("labels")
            logits = engine(**batch, use_cache=False).logits
            loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
            engine.set_gradient_accumulation_boundary(start == starts[-1])
            engine.backward(loss * world / targets, scale_wrt_gas=False)
            engine.step()
            total += loss.detach()
        torch.distributed.all_reduce(total)
        losses.append(float(total) / targets)
        ends.append(time.time())
    if rank == 0:
        arguments.result.write_text(json.dumps({"losses": losses, "ends": ends}))
    torch.distributed.barrier()  # a rank that leaves gloo while the other still works may abort
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
