"""What a stream cannot do: whatever needs all of the data before the first step."""

from __future__ import annotations

from collections.abc import Iterator

from conf.schema import Deduplicate, EvalStrategy, Packing, RunConfig, TaskName
from launcher.problems import Problem


def streaming_problems(config: RunConfig) -> Iterator[Problem]:
    """What does not go together with `data.streaming`, each with its reason."""
    data, train = config.data, config.train
    if not data.streaming:
        return
    if train.max_steps is None:
        rule = "needs train.max_steps: how long the data is, is known when it was read"
        yield Problem("data.streaming", "true", rule, "train.max_steps=1000")
    if train.eval_strategy is EvalStrategy.epoch:
        rule = "needs to know where an epoch ends, and data.streaming=true does not"
        yield Problem("train.eval_strategy", "epoch", rule, "steps")
    if data.packing is Packing.dense:
        rule = "lays out whole epochs, and data.streaming=true sees one step at a time"
        yield Problem("data.packing", "dense", rule, "exact")
    if config.task.name is TaskName.seq_cls:
        rule = "finds its labels in all of the training data before the first step; data.streaming=true reads it later"
        yield Problem("task.name", config.task.name.value, rule, "data.streaming=false")
    if data.train_files:
        rule = "mixes sources whose lengths are known; data.streaming=true reads data.train_file, which may be a folder"
        yield Problem("data.train_files", ", ".join(data.train_files), rule)
    for name in ("validation_size", "test_size"):
        if getattr(data, name):
            rule = "holds rows out of data that is known as a whole, and data.streaming=true reads it while training"
            near = f"0 with data.{name.removesuffix('_size')}_file"
            yield Problem(f"data.{name}", f"{getattr(data, name):g}", rule, near)
    if data.clean.deduplicate is not Deduplicate.none:
        rule = "compares all rows with each other, and data.streaming=true forgets them"
        yield Problem("data.clean.deduplicate", data.clean.deduplicate.value, rule, "none")
    if data.clean.drop_leaks:
        rule = "compares all rows with the validation data before training, and data.streaming=true reads them later"
        yield Problem("data.clean.drop_leaks", "true", rule, "false")
