"""Run folders for the tests of the trainer, as the launcher and the data step would have left them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conf.layout import RunFolder
from conf.outcome import Outcome, read_outcome
from conf.record import Batch, Device, Layout, Plan, Topology, encode_plan
from conf.schema import Packing, Precision, RunConfig
from launcher.plan.zero import deepspeed_json

WORLD_SIZES = (1, 2, 3, 4)


def write_documents(
    folder: Path,
    lengths: list[int],
    vocabulary: int = 96,
    seed: int = 0,
    *,
    alike: bool = False,
    poison: dict[int, int] | None = None,
) -> Any:
    """Documents of random tokens, the first half of each a prompt; returns the `Split` that describes them.

    `alike`: of the same tokens all; `poison`: document → a token that takes the place of its second half.
    """
    from train.data.documents import Writer
    from train.data.prepared import Part, Split

    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    sizes = np.array(lengths, np.int32)
    ids = generator.integers(3, vocabulary, int(sizes.sum()))
    if alike:
        ids = np.concatenate([ids[:size] for size in lengths])
    for document, token in (poison or {}).items():
        start, size = sum(lengths[:document]), lengths[document]
        ids[start + size // 2 : start + size] = token
    mask = np.concatenate([np.arange(size) >= max(1, size // 2) for size in lengths])
    with Writer(folder, vocabulary) as writer:
        writer.write(ids, mask, sizes)
    part = Part(
        "", str(folder), len(lengths), int(sizes.sum()), int(mask.sum()), max(lengths), len(lengths), 0, 0, 0, 0
    )
    return Split.of([part])


def write_run(folder: Path, config: RunConfig, model: Path, splits: dict[str, Any]) -> RunFolder:
    """A run folder with run.json, data.json and model/."""
    from train.data.prepared import Prepared, write_prepared

    run, _ = write_plan(folder, config)
    run.model.symlink_to(model)
    write_prepared(run, Prepared(splits, "", 96, 0, 2, 0.0, False))
    return run


def write_plan(folder: Path, config: RunConfig, export: bool = False) -> tuple[RunFolder, Plan]:
    """A run folder with run.json, before its data is prepared."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    topology = Topology(nodes=1, ranks_per_node=2, device=Device.cpu, start="fork", threads_per_rank=1)
    packing = config.data.packing.value
    plan = Plan(
        run_id=f"{folder.name}-00000000",
        run_dir=str(folder),
        config=config,
        topology=topology,
        layouts={size: layout(config, topology, size) for size in WORLD_SIZES},
        model_type="llama",
        parameters=None,
        packing=packing,
        export_at_end=export,
        expected_steps=None,
    )
    run.run_json.write_text(encode_plan(plan))
    return run, plan


def layout(config: RunConfig, topology: Topology, size: int) -> Layout:
    micro = config.train.per_device_train_batch_size or 1
    batch = Batch(size, config.train.global_batch_size, micro, max(1, config.train.global_batch_size // (micro * size)))
    return Layout(batch, deepspeed_json(config, replace(topology, ranks_per_node=size), batch, 32))


def configuration(stage: int, micro: int, packing: str, steps: int, precision: str = "fp32") -> RunConfig:
    """A run of a small random model on the CPU, without tracking and checkpoints before its end."""
    config = RunConfig()
    config.model.init = type(config.model.init).random
    config.data.max_length = 32
    config.data.packing = Packing(packing)
    config.parallel.zero_stage = stage
    config.optim.learning_rate = 5e-3
    config.optim.weight_decay = 0.1
    config.optim.max_grad_norm = 0.8
    config.schedule.warmup_steps = 2
    config.train.global_batch_size = 8
    config.train.per_device_train_batch_size = micro
    config.train.max_steps = steps
    config.train.precision = Precision(precision)
    config.checkpoint.save_steps = 0
    config.tracking.name = type(config.tracking.name).none
    return config


def metrics(run: RunFolder) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl."""
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def events(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    """Lines of events.jsonl of one kind."""
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def outcome(run: RunFolder) -> Outcome:
    found = read_outcome(run.outcome)
    assert found is not None
    return found


def train_runs(folders: list[RunFolder], attempt: int = 0) -> list[Any]:
    """In a rank: train each run from where it is; how each ended."""
    from conf.record import read_plan
    from tests.dist.harness import join_world
    from train.rank import train_run

    world = join_world()
    return [train_run(read_plan(folder.run_json), folder, attempt, world) for folder in folders]
