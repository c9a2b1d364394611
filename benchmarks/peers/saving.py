"""Ranks that save the same states in turn by several means: `saving.py FOLDER ROUNDS`, started by torchrun.

Prints a JSON line a save on rank 0: who, bytes of all ranks, seconds that the slowest rank's loop stood still, seconds
until all of it was on the disk. A round that is not counted comes first, so that memory of the first save is there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
from torch import distributed as dist
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save
from transformers import LlamaConfig, LlamaForCausalLM

from conf.layout import RunFolder
from conf.record import Device, Topology
from train import distributed
from train.checkpoint.background import Background
from train.distributed import World
from train.engine import Engine

MODEL = LlamaConfig(
    hidden_size=640,
    intermediate_size=1700,
    num_hidden_layers=8,
    num_attention_heads=10,
    vocab_size=32000,
    tie_word_embeddings=False,
)
"""80 million parameters: about 1 GB of weights and AdamW's moments in fp32."""
Seconds = tuple[float, float]


def open_engine() -> Engine:
    """An engine after its first step, ZeRO-3 in fp32."""
    configuration: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 3},
        "steps_per_print": 10**9,
    }
    torch.manual_seed(1)
    model = LlamaForCausalLM(MODEL)
    engine = Engine(model, torch.optim.AdamW(model.parameters(), lr=1e-4), configuration, torch.device("cpu"))
    ids = torch.randint(3, 32000, (1, 8))
    engine.train()
    engine.backward(engine(input_ids=ids, labels=ids).loss, boundary=True)
    engine.step()
    return engine


class Contents:
    """What DeepSpeed hands over, by file, without copying it."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}

    def take(self, content: Any, path: Path) -> None:
        self.files[path.name] = content


def save_with_torch(engine: Engine, world: World, folder: Path) -> Seconds:
    """`torch.save` of each file; durable once they are flushed."""
    began = time.monotonic()
    contents = Contents()
    engine.save_states(folder, {}, contents.take)
    paths = [folder / name for name in contents.files]
    for path, content in zip(paths, contents.files.values(), strict=True):
        torch.save(content, path)
    stall = time.monotonic() - began
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return stall, time.monotonic() - began


def save_with_dcp(engine: Engine, world: World, folder: Path, stager: Any = None) -> Seconds:
    """`torch.distributed.checkpoint.async_save` of the same objects, each rank's under its own name."""
    began = time.monotonic()
    contents = Contents()
    engine.save_states(folder, {}, contents.take)
    state = {f"rank{world.rank}": contents.files}
    saving = cast("Future[Any]", async_save(state, checkpoint_id=folder, async_stager=stager))
    stall = time.monotonic() - began
    saving.result()
    return stall, time.monotonic() - began


def main() -> None:
    root, rounds = Path(sys.argv[1]), int(sys.argv[2])
    size = int(os.environ["WORLD_SIZE"])
    world = distributed.join(Topology(1, size, Device.cpu, "fork", max(1, (os.cpu_count() or 1) // size)), 600.0)
    engine = open_engine()
    run = RunFolder(root / "run")
    run.path.mkdir(exist_ok=True)
    background = Background(world, run, size)
    background.prepare(engine)
    stager = DefaultStager(StagingOptions(False, False, False, False))  # what async_save makes anew each time

    def save_with_muster(engine: Engine, world: World, folder: Path) -> Seconds:
        began = time.monotonic()
        failed = background.begin(engine, 1, {})
        stall = time.monotonic() - began
        saved = failed or background.wait()
        if saved is None or saved.error is not None:
            raise RuntimeError(f"not saved: {saved}")
        return stall, time.monotonic() - began

    ways: dict[str, Callable[[Engine, World, Path], Seconds]] = {
        "Muster": save_with_muster,
        "torch.save": save_with_torch,
        "dcp.async_save": save_with_dcp,
        "dcp.async_save, buffers kept": lambda engine, world, folder: save_with_dcp(engine, world, folder, stager),
    }
    for turn in range(rounds + 1):
        for name, way in ways.items():
            folder = root / "other"
            if world.first:
                folder.mkdir()
            world.gather(None)
            stall, durable = (max(values) for values in zip(*world.gather(way(engine, world, folder)), strict=True))
            if world.first:
                written = run.checkpoints if name == "Muster" else folder
                count = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
                line = {"name": name, "counted": turn > 0, "bytes": count, "stall_s": stall, "durable_s": durable}
                print(json.dumps(line), flush=True)
                shutil.rmtree(folder)
                shutil.rmtree(run.checkpoints, ignore_errors=True)
                os.sync()
            world.gather(None)
    background.close()
    dist.barrier()
    distributed.leave()


if __name__ == "__main__":
    main()
