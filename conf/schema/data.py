"""What a model is trained on and how rows become documents."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from conf.schema.key import key


class Packing(Enum):
    """How documents are laid out in rows."""

    exact = "exact"
    dense = "dense"
    none = "none"


class DataFormat(Enum):
    """The shape of a row of data."""

    auto = "auto"
    prompt = "prompt"
    alpaca = "alpaca"
    messages = "messages"
    summary = "summary"
    classification = "classification"
    text = "text"


class LongRows(Enum):
    """What happens to a document longer than `data.max_length`."""

    truncate = "truncate"
    drop = "drop"
    error = "error"
    split = "split"


class SplitBy(Enum):
    """How rows are held out."""

    random = "random"
    stratified = "stratified"
    grouped = "grouped"


class Deduplicate(Enum):
    """Which rows count as the same."""

    none = "none"
    exact = "exact"
    near = "near"


class PrepareWhere(Enum):
    """Where the data is tokenised."""

    auto = "auto"
    inline = "inline"
    job = "job"


@dataclass
class CleanConfig:
    """What is taken out of the training data before it is used; each rule says how many rows it took."""

    drop_empty: bool = key(False, "Leave out rows without text or without an answer, which are broken rows otherwise.")
    deduplicate: Deduplicate = key(
        Deduplicate.none,
        "`exact` keeps the first of rows with the same text; `near` also of rows whose words are nearly the same.",
    )
    near_threshold: float = key(
        0.9, "`near`: share of common five-word sequences (Jaccard similarity) from which rows are the same."
    )
    drop_leaks: bool = key(False, "Leave out training rows that are in the validation or test data too.")
    min_length: int = key(0, "Shortest document, in tokens.")


@dataclass
class DataConfig:
    """What the model is trained on. JSON, JSON lines, CSV or Parquet files, or a hub data set."""

    train_file: Optional[str] = key(
        None,
        "Training data: .json, .jsonl, .csv or .parquet, `.gz` too. One of this, `train_files` and `dataset_name`.",
    )
    train_files: dict[str, str] = key(
        {}, "Several sources of training data, each a file under a name of yours; `weights` mixes them."
    )
    weights: dict[str, float] = key(
        {},
        "How often documents of each source in `train_files` come, in relation to each other; a source that runs out "
        "starts again. Empty: each document once an epoch.",
    )
    validation_file: Optional[str] = key(
        None,
        "Validation data. Null: held out of the training data by `validation_size`.",
    )
    test_file: Optional[str] = key(None, "Test data, evaluated once at the end.")
    dataset_name: Optional[str] = key(None, "Hub data set, fetched once at submit; the nodes stay offline.")
    dataset_config_name: Optional[str] = key(None, "Configuration of the hub data set, where it has several.")
    validation_size: float = key(
        0.0, "Rows held out for validation where there is no validation file: a share below 1, or a number of rows."
    )
    test_size: float = key(0.0, "Rows held out for the test, where there is no test file: a share, or a number.")
    split_by: SplitBy = key(
        SplitBy.random,
        "How rows are held out, by `train.seed`: at `random`, `stratified` (each label, or value of `split_column`, "
        "in its share) or `grouped` (rows with one value of `split_column` stay together).",
    )
    split_column: Optional[str] = key(None, "Column of `split_by`. Null with `stratified`: the label.")
    format: DataFormat = key(
        DataFormat.auto,
        "`prompt` (prompt with response or completion), `alpaca` (instruction, input, output), `messages` (OpenAI, "
        "ShareGPT), `summary` (document with summary), `classification` (text, perhaps text_pair, with label), `text`. "
        "`auto` decides by the task and the columns of the first row.",
    )
    columns: dict[str, str] = key(
        {}, "Other column names by role: `data.columns.prompt=question data.columns.response=answer`."
    )
    max_length: int = key(
        1024,
        "Longest document, in tokens; `seq2seq_lm`: what the encoder reads. Longer ones: see `on_long`. Memory grows "
        "with it.",
    )
    max_target_length: int = key(128, "`seq2seq_lm`: longest text the decoder learns to write, in tokens.")
    on_long: LongRows = key(
        LongRows.truncate,
        "A document over `max_length` is cut, dropped or an error; the number is said. Plain text can be `split` into "
        "documents that follow each other, so that all of it is learnt.",
    )
    packing: Packing = key(
        Packing.exact,
        "`exact` lays the documents of one global batch end to end: the same loss curve, no padding. `dense` packs "
        "across batches, for full rows, in an order of its own. `none` pads.",
    )
    completion_only_loss: bool = key(
        True, "Loss on responses and assistant turns only. False: on every token. Plain text always has it everywhere."
    )
    chat_template: Optional[str] = key(
        None,
        "Jinja chat template, or a file with one; replaces the tokenizer's own. Needed for `messages` without one.",
    )
    prompt_template: Optional[str] = key(
        None, "Text put around a prompt without a chat template: `{prompt}` stands for it, e.g. `Q: {prompt}\\nA:`."
    )
    max_bad_rows: int = key(
        0,
        "Broken rows (bad JSON, missing column, wrong type) tolerated, each reported; one more is an error.",
    )
    clean: CleanConfig = key(CleanConfig, "What is taken out of the training data.")
    streaming: bool = key(
        False,
        "Read and tokenise while training instead of before, for data larger than the disk or the patience. "
        "`train_file` may be a folder or a pattern (`shards/*.jsonl.gz`); needs `train.max_steps`; starts again at the "
        "end. The data step reads the head alone, so there is no report on the whole, nothing is held out, and broken "
        "rows count against `max_bad_rows` as they come.",
    )
    shuffle_buffer: int = key(
        10_000,
        "`streaming`: rows that are shuffled among each other, in an order that follows from the seed; files are "
        "shuffled too. Each rank holds twice as many in memory, at most 256 MiB.",
    )
    prepare: PrepareWhere = key(
        PrepareWhere.auto,
        "Where tokenisation runs: `inline` before the ranks meet, `job` as a CPU job before the GPU job, `auto` "
        "by size.",
    )
    prepare_workers: int = key(0, "Processes that tokenise; 0 takes the cores of the node.")
    cache_dir: Optional[str] = key(
        None, "Folder of prepared data, keyed by content and shared by runs. Null: `<run_root>/.cache`."
    )
