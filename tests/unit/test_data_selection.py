"""The data step with sources to mix, splits and cleaning: selections over one cache, and the report on them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.data_report import read_data_report
from conf.layout import RunFolder
from conf.schema import CleanConfig, Deduplicate, Packing, RunConfig, SplitBy, TaskName
from launcher.show.data_page import print_data
from tests.unit.test_data_prepare import GSM8K, config_for, prepared
from train.data.block import DataError
from train.data.documents import LINE

BANKING = GSM8K.parent / "banking77"
Rows = list[dict[str, Any]]


def write_rows(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(count: int, first: int = 0) -> Rows:
    return [{"prompt": f"question {n}", "response": f"answer {n}", "kind": f"k{n % 3}"} for n in range(first, count)]


def config_with(train_file: Path | None, **data: Any) -> RunConfig:
    """Without a random model to draw and to check."""
    config = config_for(train_file, **data)
    config.model.init = type(config.model.init).pretrained
    config.data.packing = Packing.none
    return config


def test_other_splits_and_cleaning_choose_from_the_same_documents(tmp_path: Path) -> None:
    rows = [*rows_of(60), *rows_of(10)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    plain = prepared(config_with(train), tmp_path / "runs/a")
    assert plain.splits["train"].selection is None
    changes: list[dict[str, Any]] = [
        {"validation_size": 0.1},
        {"validation_size": 0.1, "clean": CleanConfig(deduplicate=Deduplicate.exact)},
        {"test_size": 7, "clean": CleanConfig(drop_leaks=True)},
        {"clean": CleanConfig(min_length=3)},
    ]
    for number, change in enumerate(changes):
        found = prepared(config_with(train, **change), tmp_path / f"runs/b{number}")
        assert found.splits["train"].parts == plain.splits["train"].parts
        assert found.digest != plain.digest
        assert not found.reused
        again = prepared(config_with(train, **change), tmp_path / f"runs/c{number}")
        assert (again.reused, again.splits) == (True, found.splits)
    assert len(list((tmp_path / "runs/.cache/documents").iterdir())) == 1
    assert len(list((tmp_path / "runs/.cache/selections").iterdir())) == len(changes)


def test_what_cleaning_takes_is_taken_from_training_alone_and_counted(tmp_path: Path) -> None:
    rows = [*rows_of(30), *rows_of(5), {"prompt": "open", "response": " "}, {"prompt": 1, "response": "x"}]
    train = write_rows(tmp_path / "train.jsonl", rows)
    test = write_rows(tmp_path / "test.jsonl", [*rows_of(12, 8), *rows_of(12, 10)])
    clean = CleanConfig(drop_empty=True, deduplicate=Deduplicate.exact, drop_leaks=True)
    config = config_with(train, test_file=str(test), max_bad_rows=1, clean=clean)
    found = prepared(config, tmp_path / "runs/a")
    documents = found.splits["train"].open()
    assert documents.columns[LINE].tolist() == [*range(1, 9), *range(13, 31)]  # the first of the same; 8 to 11 leak
    assert found.splits["test"].documents == 6
    report = read_data_report(RunFolder(tmp_path / "runs/a").data_report)
    assert report.taken == {"duplicates": 5, "leaks": 4}
    assert (report.sources[0].broken, report.sources[0].empty, report.sources[0].documents) == (1, 1, 35)
    assert (report.splits["test"].seen, report.splits["test"].duplicates) == (0, 2)
    assert report.findings == []

    config.data.clean = CleanConfig()
    with pytest.raises(DataError, match=r"2 broken rows, data\.max_bad_rows=1 are tolerated"):
        prepared(config, tmp_path / "runs/b")
    config.data.max_bad_rows = 2
    warned = prepared(config, tmp_path / "runs/b").warnings
    assert any(text.startswith("6 of 6 test documents have their input in the training data") for text in warned)
    assert any(text.startswith("5 of 35 training documents were there before") for text in warned)


def test_several_sources_of_different_shape_are_mixed_by_weight(tmp_path: Path) -> None:
    asked = [{"question": f"q {n}", "answer": f"a {n}"} for n in range(10)]
    files = {
        "asked": str(write_rows(tmp_path / "asked.jsonl", asked)),
        "plain": str(write_rows(tmp_path / "plain.jsonl", rows_of(30))),
    }
    columns = {"prompt": "question", "response": "answer"}
    config = config_with(None, train_files=files, columns=columns, weights={"plain": 1.0, "asked": 1.0})
    split = prepared(config, tmp_path / "runs/a").splits["train"]
    documents = split.open()
    assert (documents.sizes, documents.mix.shares) == ((10, 30), (20, 20))
    assert [part.name for part in split.parts] == ["asked", "plain"]
    alone = prepared(config_with(Path(files["plain"])), tmp_path / "runs/b").splits["train"].open()
    assert alone.columns[LINE].tolist() == documents.columns[LINE][10:].tolist()
    assert [len(documents[10].ids), documents.lengths[-1]] == [documents.lengths[10], len(documents[-1].ids)]
    report = read_data_report(RunFolder(tmp_path / "runs/a").data_report)
    assert report.splits["train"].epoch == {"asked": 20, "plain": 20}
    assert report.findings == ["source asked: its 10 documents come 2.0 times an epoch by data.weights"]
    config.data.columns = {"prompt": "frage"}
    with pytest.raises(DataError, match=r"asked\.jsonl:1: columns question, answer do not make a known format"):
        prepared(config, tmp_path / "runs/c")


@pytest.mark.parametrize("split_by", [SplitBy.stratified, SplitBy.grouped])
def test_splits_follow_a_column(tmp_path: Path, split_by: SplitBy) -> None:
    train = write_rows(tmp_path / "train.jsonl", rows_of(90))
    options = {"validation_size": 0.2, "test_size": 30, "split_by": split_by, "split_column": "kind"}
    if split_by is SplitBy.grouped:
        options["validation_size"] = 30
    found = prepared(config_with(train, **options), tmp_path / "runs/a")
    counts = {
        name: np.bincount((split.open().columns[LINE] - 1) % 3, minlength=3).tolist()
        for name, split in found.splits.items()
    }
    if split_by is SplitBy.stratified:
        assert counts == {"train": [14] * 3, "validation": [6] * 3, "test": [10] * 3}
    else:
        assert sorted(counts.values()) == [[0, 0, 30], [0, 30, 0], [30, 0, 0]]


def test_groups_that_do_not_fill_a_split_are_a_finding(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", rows_of(90))
    config = config_with(train, validation_size=50, split_by=SplitBy.grouped, split_column="kind")
    warnings = prepared(config, tmp_path / "runs/a").warnings
    assert warnings == ["validation has 30 of the 50 documents asked for: data.split_by=grouped keeps groups whole"]


def test_a_source_of_which_cleaning_leaves_nothing_cannot_be_mixed_in(tmp_path: Path) -> None:
    files = {
        "a": str(write_rows(tmp_path / "a.jsonl", rows_of(20))),
        "b": str(write_rows(tmp_path / "b.jsonl", rows_of(3))),
    }
    clean = CleanConfig(deduplicate=Deduplicate.exact)
    config = config_with(None, train_files=files, weights={"a": 1.0, "b": 1.0}, clean=clean)
    with pytest.raises(DataError, match=r"nothing of a source that data\.weights mixes in"):
        prepared(config, tmp_path / "runs/a")


def test_a_rare_class_is_named_by_its_row(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", [*rows_of(20), {"prompt": "p", "response": "r", "kind": "rare"}])
    config = config_with(train, validation_size=0.2, split_by=SplitBy.stratified, split_column="kind")
    with pytest.raises(DataError, match=r"the value of kind in .*train\.jsonl:21 has fewer rows than the 2 splits"):
        prepared(config, tmp_path / "runs/a")


def test_banking77(tmp_path: Path) -> None:
    if not (BANKING / "train.csv").is_file():
        pytest.skip(f"no banking77 at {BANKING}")
    config = config_with(BANKING / "train.csv", test_file=str(BANKING / "test.csv"), columns={"label": "category"})
    config.task.name = TaskName.seq_cls
    config.data.validation_size, config.data.split_by = 0.1, SplitBy.stratified
    prepared(config, tmp_path / "runs/a")
    report = read_data_report(RunFolder(tmp_path / "runs/a").data_report)
    train, validation, test = report.splits.values()
    assert (train.documents, validation.documents, test.documents) == (9003, 1000, 3080)
    assert set(test.labels.values()) == {40}
    assert all(abs(count - (count + train.labels[name]) / 10) < 1 for name, count in validation.labels.items())
    assert train.duplicates + validation.duplicates + validation.seen == 4
    assert test.seen == 7
    out = io.StringIO()
    print_data("banking77", report, out)
    assert "and 57 more labels" in out.getvalue()
    assert "7 of 3080 test documents" in out.getvalue()
