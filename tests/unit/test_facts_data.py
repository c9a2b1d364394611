"""Data files before a plan: rows, columns, the first broken row, without heavy libraries."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from conf.schema import DataConfig
from launcher.facts import data as facts_data
from launcher.facts.data import gather_data, look_at, resolve_data_path
from launcher.facts.hub import Hub
from launcher.facts.survey import BrokenRow

LINES = b'{"text": "a"}\n\n{"text": "bcd", "more": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "rows", "columns", "broken"),
    [
        pytest.param("a.jsonl", LINES, 2, ("text", "more"), None, id="lines"),
        pytest.param("a.jsonl", LINES.rstrip(), 2, ("text", "more"), None, id="no newline at the end"),
        pytest.param("a.jsonl", LINES + b"{oops\n", 2, ("text", "more"), 4, id="broken line"),
        pytest.param("a.jsonl", LINES + b"[1]\n", 2, ("text", "more"), 4, id="a list for a row"),
        pytest.param("a.jsonl.gz", gzip.compress(LINES), 2, ("text", "more"), None, id="gzip"),
        pytest.param("a.json", b' [{"text": "a"}, {"text": "b"}]', 2, ("text",), None, id="array"),
        pytest.param("a.json", b'[{"text": "a"}, 3]', 1, ("text",), 2, id="array with a broken row"),
        pytest.param("a.json", LINES, 2, ("text", "more"), None, id="lines called json"),
        pytest.param(
            "a.csv", b'prompt,response\n"a, b","two\nlines"\nc,d\n', 2, ("prompt", "response"), None, id="csv"
        ),
        pytest.param("a.csv", b"prompt,response\na,b\nc\n", 1, ("prompt", "response"), 3, id="csv with a short row"),
    ],
)
def test_small_files_are_read_whole(
    tmp_path: Path, name: str, content: bytes, rows: int, columns: tuple[str, ...], broken: int | None
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = look_at("data.train_file", name, path)
    assert found.error == ""
    assert (found.rows, found.columns, found.rows_estimated) == (rows, columns, False)
    assert (found.broken.line if found.broken else None) == broken
    assert found.broken_rows == (broken is not None)
    assert len(found.lengths) == rows


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.xml", b"<a/>", "has the suffix '.xml'"),
        ("a.jsonl.gz", b"plain", "Not a gzipped file"),
        ("a.json", b"[1, 2", "truncated"),
        ("a.parquet", b"not parquet at all", "its first bytes are not PAR1"),
        ("a.parquet", b"PAR1 and then cut off", "its last bytes are not a Parquet footer"),
        ("a.csv", b'a,b\n"open', "unexpected end of data"),
    ],
    ids=["empty", "suffix", "gzip", "array", "parquet", "cut parquet", "csv"],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, error: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert error in look_at("data.train_file", name, path).error


def test_missing_files_are_recorded(tmp_path: Path) -> None:
    assert "No such file" in look_at("data.train_file", "x.jsonl", tmp_path / "x.jsonl").error
    assert look_at("data.train_file", "x", tmp_path).error == "is not a file"


@pytest.mark.parametrize(("counted", "estimated"), [(1 << 30, False), (0, True)], ids=["counted", "estimated"])
def test_large_files_are_counted_or_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: int, estimated: bool
) -> None:
    monkeypatch.setattr(facts_data, "PARSED_BYTES", 2000)
    monkeypatch.setattr(facts_data, "COUNTED_BYTES", counted)
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {number:06}"}) + "\n" for number in range(1000)))
    found = look_at("data.train_file", "large.jsonl", path)
    assert found.rows_estimated == estimated
    assert found.rows == 1000


def test_parquet_is_read_by_its_footer(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = [
        {"text": str(i), "messages": [{"role": "user", "content": "x"}], "n": {"a": i, "b": [i]}} for i in range(700)
    ]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)
    found = look_at("data.train_file", "a.parquet", path)
    assert (found.error, found.rows, found.columns) == ("", 700, ("text", "messages", "n"))


def test_paths_are_made_absolute(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "a.jsonl").write_bytes(LINES)
    assert resolve_data_path("builtin:demo/a.jsonl", Path("/x"), tmp_path) == tmp_path / "demo" / "a.jsonl"
    assert resolve_data_path("a.jsonl", Path("/x"), tmp_path) == Path("/x/a.jsonl")
    config = DataConfig(train_file="builtin:demo/a.jsonl", test_file="/nowhere.jsonl")
    found = gather_data(config, Path("/x"), tmp_path, Hub("python3", {}, fetch=False))
    assert sorted(found) == ["data.test_file", "data.train_file"]
    assert found["data.train_file"].rows == 2
    assert found["data.test_file"].error


def test_the_first_broken_row_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n[2]\n{x\n')
    found = look_at("data.train_file", "a.jsonl", path)
    assert found.broken == BrokenRow(2, "a row has to be an object with columns, not list")
    assert found.broken_rows == 2
