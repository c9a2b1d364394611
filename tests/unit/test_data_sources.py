"""Rows from files: every kind gives the same rows, and every broken row has its file, line and reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from train.data import sources
from train.data.block import BadRow, DataError, Row, decode

ROWS = [{"prompt": f"frage {n} ä", "response": "x\ny" if n == 3 else f"{n}"} for n in range(5)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = b"prompt,response\n" + "".join(f'{row["prompt"]},"{row["response"]}"\n' for row in ROWS).encode()


def read(path: Path) -> tuple[list[Row], list[BadRow]]:
    parts = [decode(block) for block in sources.blocks(path)]
    return [row for rows, _ in parts for row in rows], [row for _, bad in parts for row in bad]


def write_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.json", LINES),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES),
        ("blank.jsonl", b"\n" + LINES.replace(b"\n", b"\r\n\n")),
        ("no-newline.jsonl", LINES.rstrip()),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("array.json", json.dumps(ROWS, indent=1).encode()),
        ("array.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("a.csv", CSV),
        ("bom.csv", b"\xef\xbb\xbf" + CSV),
        ("a.csv.gz", gzip.compress(CSV)),
        ("a.parquet", None),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:
        write_parquet(path)
    else:
        path.write_bytes(content)
    rows, bad = read(path)
    assert [row.columns for row in rows] == ROWS
    assert bad == []


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("cut.jsonl", b'{"a": 1}\n{"a": \n{"a": 2}\n', 2, "not JSON: Input data was truncated"),
        ("kind.jsonl", b'{"a": 1}\n[1]\n{"a": 2}\n', 2, "a list where an object with columns is expected"),
        ("byte.jsonl", b'{"a": 1}\n{"a": "\xff"}\n{"a": 2}\n', 2, "byte 0xff at offset 16 is not UTF-8"),
        ("kind.json", b'[{"a": 1}, "b", {"a": 2}]', 2, "text where an object with columns is expected"),
        ("few.csv", b"a,b\n1,2\n3\n4,5\n", 3, "1 fields, the header has 2"),
        ("many.csv", b"a,b\n1,2\n3,4,5\n4,5\n", 3, "3 fields, the header has 2"),
        ("byte.csv", b"a,b\n1,2\n3,\xff\n4,5\n", 3, "byte 0xff at offset 10 is not UTF-8"),
        ("quote.csv", b'a,b\n1,2\n3,"x"y\n4,5\n', 3, "not CSV: "),
    ],
)
def test_broken_rows_have_line_and_reason(tmp_path: Path, name: str, content: bytes, line: int, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    rows, bad = read(path)
    assert len(rows) == 2
    assert [(row.file, row.line) for row in bad] == [(str(path), line)]
    assert bad[0].reason.startswith(reason)


def test_lines_and_offsets_are_right_beyond_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 37)
    lines = [json.dumps({"a": "x" * (n % 50)}).encode() for n in range(60)]
    lines[40] = b'{"a": "\xc3("}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    blocks = list(sources.blocks(path))
    rows, bad = read(path)
    assert len(blocks) > 10
    assert [row.line for row in rows] == [n for n in range(1, 61) if n != 41]
    assert [row.line for row in bad] == [41]
    assert f"offset {path.read_bytes().index(bytes([0xC3]))} " in bad[0].reason
    assert blocks[-1].done == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"x", "not a kind of data file"),
        ("a.parquet.gz", b"x", "not a kind of data file"),
        ("a.parquet", b"no parquet", "Parquet magic bytes not found"),
        ("a.json", b'[{"a": 1}, ', "not a JSON array"),
        ("a.csv", b"", "without a header"),
        ("a.csv", b"a,b,a\n", "two columns of the header have one name"),
        ("a.jsonl.gz", gzip.compress(LINES * 100)[:60], "end-of-stream"),
        ("a.jsonl.gz", LINES, "Not a gzipped file"),
        ("missing.jsonl", None, "No such file"),
    ],
)
def test_a_file_broken_as_a_whole_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        list(sources.blocks(path))
    assert str(path) in str(raised.value)
