"""`data_report.json`: what the data of a run is like, written by the data step and read by whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from conf.files import write_atomically

RULES = {
    "min_length": "too short (data.clean.min_length)",
    "duplicates": "exact duplicates (data.clean.deduplicate)",
    "near_duplicates": "near duplicates, found approximately (data.clean.deduplicate=near)",
    "leaks": "with an input of the validation or test data (data.clean.drop_leaks)",
}
"""What each rule of `data.clean` took, in words."""


@dataclass(frozen=True)
class SourceReport:
    """What became of the rows of one file (or split of a hub data set).

    `name` is the source's in `data.train_files`. `cut` documents are among the `documents`; the other rows are not.
    """

    split: str
    file: str
    rows: int
    documents: int
    broken: int
    empty: int
    dropped: int
    cut: int
    without_targets: int
    name: str = ""


@dataclass(frozen=True)
class Lengths:
    """Lengths of documents in tokens. `counts[i]` documents have `edges[i]` to `edges[i + 1] - 1` tokens."""

    shortest: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    edges: list[int]
    counts: list[int]


@dataclass(frozen=True)
class SplitReport:
    """The documents of one split as it is used.

    `duplicates` are documents that were there before, with the same answer or label; `contradictions` are those whose
    input is there with another answer too. `leaks` are training documents whose input is in this split, `seen` this
    split's documents that they give away. `labels` counts documents by label. `sources` counts documents of each of
    several sources, `epoch` how many of them come in an epoch.
    """

    documents: int
    tokens: int
    targets: int
    lengths: Lengths
    duplicates: int
    contradictions: int
    leaks: int = 0
    seen: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    epoch: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DataReport:
    """All splits, what cleaning took from the training data by rule, and what deserves a look, in words."""

    splits: dict[str, SplitReport]
    sources: list[SourceReport]
    max_length: int
    taken: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def read_data_report(path: Path) -> DataReport:
    """The report in a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no report.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=DataReport)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is not a report on data: {error}") from error


def write_data_report(path: Path, report: DataReport) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
