"""One rank from start to end.

Read top to bottom it is the story of a run on one rank: join the others, load, go on from the newest checkpoint,
rehearse, train, and finish with evaluation, checkpoint, export and outcome.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from conf.layout import RunFolder
from conf.outcome import Cause, State
from conf.record import Layout, Plan, read_plan
from conf.schema import Packing, RunConfig
from train import distributed
from train.assembly import assemble
from train.checkpoint import checkpoint
from train.checkpoint.background import Background
from train.data.batches import Loader, TrainingBatches
from train.data.block import BadRow
from train.data.documents import Documents
from train.data.prepared import Prepared, read_prepared
from train.deadline import Deadline
from train.distributed import World
from train.evaluation.course import Course
from train.evaluation.turns import evaluate_before, is_evaluation_due, validate
from train.finish import finish
from train.loop import rehearse, train
from train.methods.method import share_of
from train.metrics.journal import Journal
from train.metrics.pace import Pace
from train.metrics.truth import Truth
from train.metrics.window import Window
from train.model.flops import mean_context, operations_per_token, peak_operations
from train.model.parameters import parameter_count
from train.node.env import read_end_time
from train.node.limits import collective_timeout_s
from train.numbers import Numbers
from train.preflight.all_reduce import measure_all_reduce
from train.stop import StopAskedError, StopVote
from train.tasks.task import Task
from train.tracking.track import Tracker
from train.training import Ending, Progress, Training, stopped


class WorldSizeError(Exception):
    """The ranks that met are not as many as the plan knows a batch equation for."""

    cause = Cause.config


class NoDataError(Exception):
    """There is nothing to train on."""

    cause = Cause.data


def main(folder: RunFolder, attempt: int) -> None:
    """Train the run in `folder` as the rank that torch's environment variables name; the ending is in outcome.json."""
    plan = read_plan(folder.run_json)
    config = plan.config
    world = distributed.join(plan.topology, collective_timeout_s(config.health), config.train.deterministic)
    train_run(plan, folder, attempt, world)
    distributed.leave()


def train_run(plan: Plan, folder: RunFolder, attempt: int, world: World) -> Ending:
    """The run from its newest checkpoint to its end or a stop; a collective of all ranks in `world`."""
    journal = Journal(folder, attempt, active=world.first)
    measure_all_reduce(plan, folder.attempt(attempt), world, journal)
    tracker = None
    if world.first:
        tracker = Tracker.open(
            plan, folder, attempt, journal.warning, opened=lambda url: journal.event("tracked", url=url)
        )

    state = State.failed
    try:
        deadline = Deadline(folder, attempt, read_end_time(os.environ))
        with StopVote(folder.stop, world, deadline) as stop:
            training = prepared(plan, folder, attempt, world, journal, stop)
            ending = finish(training, begin(training))
            training.engine.close()
        state = ending.state
    except StopAskedError as asked:
        # Nothing was trained that could be saved; `train.node.decide` says how the run stands.
        ending = stopped(0, asked.reason)
        state = ending.state
    finally:
        if tracker is not None:
            tracker.close(state.value)
    return ending


def prepared(
    plan: Plan,
    folder: RunFolder,
    attempt: int,
    world: World,
    journal: Journal,
    stop: StopVote,
) -> Training:
    """Data, model, engine and the newest checkpoint: everything up to the first step.

    Raises:
        WorldSizeError: the plan has no layout for this many ranks.
        StopAskedError: a stop came while it was loading.
    """
    layout = layout_of(plan, world)
    config = plan.config
    seed_generators(config.train.seed + world.rank)
    journal.phase("load")
    stop.leave_if_asked()
    data = read_prepared(folder)
    splits = {name: data.open(name) for name in ("train", "validation", "test")}
    documents = documents_of(config, folder, splits)
    assembly = assemble(
        plan,
        layout,
        folder,
        data,
        world,
        report=lambda text: journal.event("new_weights", text=text),
        doing=lambda text: journal.phase("load", text=text),
    )
    stop.leave_if_asked()
    loader_of = partial(batches_of, plan, layout, world, assembly.task)
    loader: TrainingBatches = cast("Loader", loader_of(documents))
    if config.data.streaming:
        loader = stream_batches(plan, layout, folder, data, world, assembly.task, journal)
    training = Training(
        plan=plan,
        layout=layout,
        folder=folder,
        attempt=attempt,
        world=world,
        engine=assembly.engine,
        loader=loader,
        validation=loader_of(splits["validation"]),
        test=loader_of(splits["test"]),
        total_steps=loader.total_steps(config.train.num_train_epochs, config.train.max_steps),
        journal=journal,
        stop=stop,
        window=window_of(plan, assembly.engine.module, documents, world, journal),
        task=assembly.task,
        background=Background(world, folder, plan.topology.ranks_per_node),
        saves_beside=config.checkpoint.async_save,
        truth=Truth(plan, world, journal),
    )
    introduce(training, assembly.optimizer)
    go_on(training)
    stop.leave_if_asked()
    return training


def documents_of(config: RunConfig, folder: RunFolder, splits: Mapping[str, Documents | None]) -> Documents:
    """The documents to train on; those of any split where no step will ask for them.

    Raises:
        NoDataError: there are none.
    """
    asked = splits.values() if config.train.max_steps == 0 else [splits["train"]]
    for documents in asked:
        if documents:
            return documents
    raise NoDataError(f"{folder.data_json} has no training documents")


def batches_of(plan: Plan, layout: Layout, world: World, task: Task, documents: Documents | None) -> Loader | None:
    """The batches of a split; None where it has no documents."""
    if not documents:
        return None
    packed = plan.packing != "none"
    return Loader(documents, plan.config, layout.batch, world.rank, world.size, world.device, task.collate, packed)


def window_of(plan: Plan, model: Any, documents: Documents, world: World, journal: Journal) -> Window:
    """What measures the steps on these documents; a collective."""
    written = float(documents.targets.sum(dtype="int64")) / max(1, int(documents.lengths.sum(dtype="int64")))
    operations = operations_per_token(model, model.config, mean_context(documents.lengths), written)
    pace = Pace(world.gather(socket.gethostname()), plan.config.health.straggler_factor, journal)
    return Window(world, operations, peak_operations(world.device), pace)


def introduce(training: Training, optimizer: str) -> None:
    """Say the batch, the model and what of it is trained."""
    say(training, f"{batch_equation(training)}; {optimizer}; {model_in_words(training)}")
    share = share_of(training.engine.module.parameters())
    training.journal.event("trainable", text=share.in_words(), **asdict(share))
    if training.world.first:
        print(share.in_words(), flush=True)


def stream_batches(
    plan: Plan, layout: Layout, folder: RunFolder, data: Prepared, world: World, task: Task, journal: Journal
) -> TrainingBatches:
    """The training batches of data that is read while training; a collective."""
    from transformers import AutoTokenizer

    from train.data.stream_batches import StreamLoader
    from train.data.stream_sources import open_stream

    config = plan.config
    tokenizer = AutoTokenizer.from_pretrained(folder.model, trust_remote_code=config.model.trust_remote_code)
    stream, encoder = open_stream(config, data.stream, tokenizer)

    def report(row: BadRow) -> None:
        journal.event("warning", text=f"broken and left out: {row}")

    packed = plan.packing != Packing.none.value
    place = layout.batch, world.rank, world.size, world.device
    return StreamLoader(stream, encoder, config, *place, task.collate, packed, world.exchange(), report)


def begin(training: Training) -> Ending:
    """Rehearse, evaluate what was not evaluated yet, train."""
    if training.total_steps == 0:
        return Ending(State.done, 0, "evaluated")
    if training.plan.config.train.rehearsal:
        rehearse(training)
    training.stop.leave_if_asked()
    step = training.progress.step
    if step == 0 and training.plan.config.train.eval_on_start:
        evaluate_before(training)
    elif is_evaluation_due(training, step) and training.progress.course.step != step:
        validate(training)  # a stop came between the step and its evaluation
    reason = training.stop.asked_now()  # what came meanwhile: a step more would need a save
    return train(training) if reason is None else stopped(step, reason)


def go_on(training: Training) -> None:
    """Take up the newest checkpoint that verifies, if there is one."""

    def report(text: str) -> None:
        training.journal.event("warning", text=text)

    training.journal.phase("load", text="the newest checkpoint that verifies")
    info = checkpoint.newest_valid(training.folder, training.world, report)
    if info is None:
        return
    training.journal.phase("load", text=f"checkpoint of step {info.step}")
    state = checkpoint.load(training.engine, info, training.world, training.journal)
    training.progress = Progress(
        info.step,
        int(state["tokens_seen"]),
        saved_step=info.step,
        course=Course.of_state(state.get("course")),
        numbers=Numbers.of_state(state.get("numbers")),
        place=state.get("place"),
    )
    training.loader.go_on(training.progress.place)
    text = f"going on after step {info.step} of attempt {state['attempt']}"
    say(training, text, event="resumed", step=info.step)


def layout_of(plan: Plan, world: World) -> Layout:
    """Batch and DeepSpeed JSON at the number of ranks that met."""
    if world.size not in plan.layouts:
        known = ", ".join(str(size) for size in sorted(plan.layouts))
        raise WorldSizeError(f"{world.size} ranks met; the plan has layouts for {known}")
    return plan.layouts[world.size]


def seed_generators(seed: int) -> None:
    """Seed Python, NumPy and torch; each rank has its own seed, for dropout."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)


def batch_equation(training: Training) -> str:
    """The batch in words, such as `16 documents a step = 4 × 2 micro batches × 2 ranks`."""
    batch = training.layout.batch
    if training.plan.packing == "none":
        parts = f"micro batch {batch.micro_batch_size} × {batch.accumulation} × {batch.world_size} ranks"
        return f"{batch.global_batch_size} documents a step = {parts}"
    tokens = batch.micro_batch_size * training.plan.config.data.max_length
    rows = f"{batch.accumulation} row{plural(batch.accumulation)} of up to {tokens} tokens"
    ranks = f"{batch.world_size} rank{plural(batch.world_size)}"
    return f"{batch.global_batch_size} documents a step ≈ {ranks} × {rows}, packed: {training.plan.packing}"


def plural(count: int) -> str:
    """The ending of a noun that is counted."""
    return "" if count == 1 else "s"


def model_in_words(training: Training) -> str:
    topology, count = training.plan.topology, parameter_count(training.engine.module.parameters())
    nodes = f"{topology.nodes} node{plural(topology.nodes)}"
    where = f"{nodes} × {topology.ranks_per_node} ({topology.device.value}, {topology.start})"
    return f"{training.plan.model_type} of {count:,} parameters, ZeRO-{training.engine.zero_stage} on {where}"


def say(training: Training, text: str, event: str = "batch", **values: Any) -> None:
    """Once into rank 0's log and the events."""
    training.journal.event(event, text=text, **values)
    if training.world.first:
        print(text, flush=True)
