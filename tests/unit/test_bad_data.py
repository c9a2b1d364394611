"""Bad data files are refused before anything queues, with the file's key, the line and what to do."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.check.data import data_problems
from launcher.check.labels import label_problems
from launcher.facts.data import gather_data
from launcher.facts.hub import Hub
from tests.unit.planned import config_of, facts_of

GOOD = b'{"prompt": "a", "response": "b"}\n'
HUB = Hub("python", {}, fetch=False)


def problems(path: Path, *overrides: str) -> list[str]:
    config = config_of("model=tiny", f"data.train_file={path}", *overrides)
    files = gather_data(config.data, path.parent, path.parent, HUB)
    return [str(problem) for problem in data_problems(config, replace(facts_of(), data_files=files))]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("a.jsonl", b"", "is empty", id="empty file"),
        pytest.param("a.jsonl", b"\n \n", "has no rows", id="blank lines"),
        pytest.param("a.json", b"[]", "has no rows", id="empty array"),
        pytest.param("a.csv", b"prompt,response\n", "has no rows", id="header alone"),
        pytest.param("a.jsonl", GOOD.decode().encode("utf-16"), "is UTF-16, and data is UTF-8: iconv", id="utf-16"),
        pytest.param("a.csv", "prompt,response\na,b\n".encode("utf-16"), "is UTF-16", id="utf-16 csv"),
        pytest.param(
            "a.jsonl",
            GOOD + '{"prompt": "é", "response": "b"}\n'.encode("latin-1"),
            "is broken in line 2: byte 0xe9 at offset 45 is not UTF-8; of Latin-1: iconv",
            id="latin-1",
        ),
        pytest.param(
            "a.csv",
            "prompt,response\na,b\né,b\n".encode("latin-1"),
            "is broken in line 3: byte 0xe9 at offset 20 is not UTF-8",
            id="latin-1 csv",
        ),
        pytest.param("a.jsonl", GOOD * 2 + b"{oops\n", "is broken in line 3: JSON is malformed", id="broken json"),
        pytest.param("a.jsonl", GOOD + b"3\n", "line 2: a row has to be an object with columns, not int", id="number"),
        pytest.param(
            "a.jsonl",
            GOOD * 3 + b'{"prompt": " ", "response": "b"}\n',
            "line 4: column 'prompt' is empty; 1 broken rows, data.max_bad_rows=0; nearest: data.clean.drop_empty=true",
            id="empty row",
        ),
        pytest.param("a.jsonl", GOOD + b'{"prompt": "a"}\n', "line 2: no column 'response'", id="missing column"),
        pytest.param(
            "a.jsonl",
            b'{"prompt": 3, "response": 4}\n' * 2,
            "line 1: column 'prompt' is int, text is expected; 2 broken rows",
            id="numbers",
        ),
        pytest.param(
            "a.jsonl", b'{"q": "a", "z": "b"}\n', "has the columns q, z, which make no known format", id="columns"
        ),
        pytest.param(
            "a.csv", b"prompt,response\na\n", "line 2: does not have 2 columns as the header has", id="short row"
        ),
        pytest.param("a.parquet", b"PAR1xxxx", "its last bytes are not a Parquet footer", id="parquet"),
        pytest.param(
            "a.jsonl.gz", gzip.compress(GOOD * 99)[:20], "ended before the end-of-stream marker", id="cut gzip"
        ),
        pytest.param("a.txt", GOOD, "has the suffix '.txt', which is not a kind of data file", id="kind"),
        pytest.param(
            "a.jsonl",
            b'{"messages": [{"role": "user", "content": "a"}]}\n',
            "has conversations, which need a chat template",
            id="no chat template",
        ),
        pytest.param(
            "a.jsonl",
            b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
            "a better and a worse answer",
            id="preferences",
        ),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    [problem] = problems(path)
    assert problem.startswith(f"data.train_file={path}")
    assert words in problem


@pytest.mark.parametrize(
    ("content", "overrides"),
    [
        pytest.param(b"\xef\xbb\xbf" + GOOD, (), id="byte order mark"),
        pytest.param(GOOD + b"{oops\n", ("data.max_bad_rows=1",), id="tolerated"),
        pytest.param(GOOD + b'{"prompt": 1, "response": 2}\n', ("data.max_bad_rows=1",), id="a row bad twice"),
        pytest.param(GOOD + b'{"prompt": "", "response": "b"}\n', ("data.clean.drop_empty=true",), id="dropped"),
    ],
)
def test_what_a_run_can_bear_is_let_through(tmp_path: Path, content: bytes, overrides: tuple[str, ...]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert problems(path, *overrides) == []


STREAMED = ("data.streaming=true", "train.max_steps=5")


def test_a_folder_or_a_pattern_of_shards_is_looked_at(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    [nothing] = problems(shards, *STREAMED)
    assert "neither a file nor a folder or pattern with data files (.json, .jsonl, .csv, .parquet)" in nothing
    (shards / "README").write_text("x")
    for number in range(3):
        (shards / f"{number}.jsonl").write_bytes(GOOD * 10 * (number + 1))
    assert problems(shards, *STREAMED) == []
    assert problems(shards / "*.jsonl", *STREAMED) == []
    [unstreamed] = problems(shards)
    assert "is not a file" in unstreamed
    config = config_of("model=tiny", f"data.train_file={shards}", *STREAMED)
    found = gather_data(config.data, tmp_path, tmp_path, HUB)["data.train_file"]
    assert (found.rows, found.rows_estimated, found.path) == (60, True, str(shards))
    (shards / "0.jsonl").write_text(json.dumps({"q": "a"}) + "\n")
    assert "make no known format" in problems(shards, *STREAMED)[0]


def labels(*names: object) -> bytes:
    return b"".join(
        json.dumps({"text": f"text {place}", "label": name}).encode() + b"\n" for place, name in enumerate(names)
    )


@pytest.mark.parametrize(
    ("content", "overrides", "words"),
    [
        pytest.param(
            labels("good", "bad", "badd"),
            ["task.labels=[good,bad]"],
            "has the label 'badd' in line 3, which is none of task.labels: good, bad; nearest: bad",
            id="none of the set",
        ),
        pytest.param(
            labels(0.5, "many"),
            ["task.problem_type=regression"],
            "regression learns numbers, and a.jsonl has the label 'many' in line 2",
            id="a word for a number",
        ),
        pytest.param(
            labels("a", "a", "b", "b", "alone"),
            ["data.split_by=stratified", "data.validation_size=0.4"],
            "a row of each class in each of 2 splits, and there are too few of 'alone' (1)",
            id="a class of one row",
        ),
        pytest.param(labels("a", "a"), [], "has the label 'a' in every row", id="one label alone"),
        pytest.param(
            labels("good", "bad"),
            ["+task.class_weights.god=2"],
            "task.class_weights.god=2 is no label of the training data; there are good, bad; nearest: good",
            id="a weight for no label",
        ),
    ],
)
def test_labels_are_refused_before_anything_queues(
    tmp_path: Path, content: bytes, overrides: list[str], words: str
) -> None:
    found = label_reports(tmp_path, content, *overrides)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("content", "overrides"),
    [
        pytest.param(labels(1, 2.0, "3"), ["task.labels=['1','2','3']"], id="numbers as names"),
        pytest.param(labels(0.5, 1, 2), ["task.problem_type=regression"], id="numbers"),
        pytest.param(labels(["a"], ["b", "a"]), ["task.labels=[a,b]"], id="lists are the data step's to judge"),
        pytest.param(labels(*(f"label {place}" for place in range(2000))), [], id="two thousand labels"),
        pytest.param(labels("a, b", "c"), [], id="a comma in a label"),
    ],
)
def test_labels_that_can_be_learnt_pass(tmp_path: Path, content: bytes, overrides: list[str]) -> None:
    assert label_reports(tmp_path, content, *overrides) == []


def test_a_label_of_the_validation_data_that_training_does_not_have_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(labels("good", "excellent"))
    (problem,) = label_reports(tmp_path, labels("good", "bad"), f"data.validation_file={other}")
    assert "has the label 'excellent' in line 2, which is none of the labels: good, bad" in problem


def label_reports(folder: Path, content: bytes, *overrides: str) -> list[str]:
    (folder / "a.jsonl").write_bytes(content)
    config = config_of("model=tiny-bert", "task=seq_cls", "data.train_file=a.jsonl", *overrides)
    files = gather_data(config.data, folder, folder, HUB)
    return [str(problem) for problem in label_problems(config, replace(facts_of(), data_files=files))]
