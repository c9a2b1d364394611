"""The training rows as far as they were seen: how many, how long, and how many optimizer steps they make."""

from __future__ import annotations

import math

from conf.schema import DataConfig, RunConfig
from launcher.facts.data import HUB_KEY
from launcher.facts.facts import DataFile, Facts

CHARACTERS_PER_TOKEN = 4.0
CHARACTERS_PER_TRAINED_TOKEN = 2.5
"""Rough figures for text; they only give the expected number of packed rows, which is called "about"."""

TRAIN, SEVERAL = "data.train_file", "data.train_files."


def training_data(facts: Facts) -> list[DataFile]:
    """The training data, from files or the hub, where it was seen."""
    return [file for key, file in facts.data_files.items() if key in (TRAIN, HUB_KEY) or key.startswith(SEVERAL)]


def training_rows(facts: Facts) -> tuple[int | None, bool]:
    """Rows of all training data, before any are held out, and whether that is an estimate; None where unknown."""
    files = training_data(facts)
    counts = [file.rows for file in files if file.rows is not None]
    if not files or len(counts) < len(files):
        return None, False
    return sum(counts), any(file.rows_estimated for file in files)


def document_tokens(config: RunConfig, facts: Facts) -> float | None:
    """About how many tokens a training document has; None where no text was seen."""
    lengths = training_lengths(facts)
    if not lengths:
        return None
    trained = config.model.tokenizer_name_or_path == "train"
    each = CHARACTERS_PER_TRAINED_TOKEN if trained else CHARACTERS_PER_TOKEN
    return max(1.0, sum(lengths) / len(lengths) / each)


def training_lengths(facts: Facts) -> list[int]:
    """Characters of the first rows of each source."""
    return [length for file in training_data(facts) for length in file.lengths]


def held_out(data: DataConfig, rows: int) -> int:
    """Rows that are held out for validation and test."""
    shares = [] if data.validation_file else [data.validation_size]
    shares += [] if data.test_file else [data.test_size]
    return sum(_held(rows, share) for share in shares)


def _held(rows: int, share: float) -> int:
    """Rows by a share below 1, or by their number; at most all, and none where it is neither."""
    if not share > 0:
        return 0
    return math.ceil(rows * share) if share < 1 else int(min(share, rows))


def expected_steps(config: RunConfig, facts: Facts) -> tuple[int | None, str]:
    """Optimizer steps of the run where they can be told, and how."""
    train = config.train
    if train.max_steps is not None:
        return train.max_steps, f"{train.max_steps} steps: train.max_steps"
    rows, estimated = training_rows(facts)
    if rows is None:
        return None, "the number of steps follows from the data, which is counted when it is prepared"
    rows -= held_out(config.data, rows)
    steps = max(1, math.ceil(round(train.num_train_epochs * rows / train.global_batch_size, 6)))
    about = "about " if estimated else ""
    epochs = f"{train.num_train_epochs:g} epoch{'' if train.num_train_epochs == 1 else 's'}"
    return steps, f"{about}{steps} steps: {epochs} of {about}{rows} rows, {train.global_batch_size} a step"
