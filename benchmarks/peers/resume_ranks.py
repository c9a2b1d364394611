"""Ranks of the benchmark `resume`: `resume_ranks FOLDER STAGE save` trains a step and saves it, `… load` takes it up.

Rank 0 writes what it took to `FOLDER/taken.json`: seconds until every rank had verified and loaded the checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conf.layout import RunFolder
from conf.record import Device, Topology
from train import distributed
from train.checkpoint import checkpoint
from train.distributed import World
from train.engine import Engine
from train.metrics.journal import Journal

SHAPE = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16}
SHAPE |= {"num_attention_heads": 8, "num_key_value_heads": 8}


def engine_of(stage: int) -> Engine:
    """A random Llama of 75 million parameters in fp32 with AdamW under ZeRO."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE))
    configuration = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
        "steps_per_print": 1 << 30,
    }
    return Engine(model, torch.optim.AdamW(model.parameters(), lr=1e-4), configuration, torch.device("cpu"))


def save(engine: Engine, world: World, folder: RunFolder) -> None:
    ids = torch.arange(8)[None] + world.rank
    engine.train()
    engine.backward(engine(input_ids=ids, labels=ids).loss, boundary=True)
    engine.step()
    saved = checkpoint.save(engine, world, folder, 1, {"run_id": "resume-00000000", "attempt": 0})
    assert saved.error is None, saved.error


def load(engine: Engine, world: World, folder: RunFolder) -> float:
    started = time.monotonic()
    found = checkpoint.newest_valid(folder, world, print)
    assert found is not None
    checkpoint.load(engine, found, world, Journal(folder, 1, active=world.first))
    world.all_true(True)
    return time.monotonic() - started


def main(path: str, stage: str, action: str) -> None:
    folder = RunFolder(Path(path))
    world = distributed.join(Topology(1, int(os.environ["WORLD_SIZE"]), Device.cpu, "exec", 1), timeout_s=600.0)
    engine = engine_of(int(stage))
    if action == "save":
        save(engine, world, folder)
    else:
        seconds = load(engine, world, folder)
        if world.first:
            (folder.path / "taken.json").write_text(json.dumps(seconds))
    distributed.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
