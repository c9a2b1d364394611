"""What is known of data files before a plan: size, rows, columns, the first broken row.

Small files are read whole; of large ones only the head is parsed and the rest counted or estimated, and that is said.
Nothing heavy is imported: Parquet is read by its footer alone.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from conf.schema import DataConfig
from launcher.facts.hub import Hub, fetch_data
from launcher.facts.parquet_footer import read_footer
from launcher.facts.survey import BrokenRow, ColumnFault, Seen, Survey, characters, not_utf8, without_mark

HUB_KEY = "data.dataset_name"
SOURCES = "data.train_files."
"""The beginning of the key of each of several sources of training data."""
BUILTIN = "builtin:"
PARSED_BYTES = 4 << 20
COUNTED_BYTES = 256 << 20
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class DataFile:
    """One file of training, validation or test data, as it lies on disk.

    `rows` is None where it cannot be told; `rows_estimated` says that it was extrapolated from the head of a large
    file.
    `columns` are those of all rows that were parsed, `broken` is the first row that could not be. `lengths` has the
    characters of the text in the first rows. `error` is why the file cannot be used at all, or empty. `faults` are, by
    column, rows in which it is no text; `values` the different values of columns that could hold labels. `whole` says
    that every row was parsed.
    """

    key: str
    given: str
    path: str
    size: int = 0
    rows: int | None = None
    rows_estimated: bool = False
    columns: tuple[str, ...] = ()
    first_rows: tuple[dict[str, Any], ...] = ()
    lengths: tuple[int, ...] = ()
    broken: BrokenRow | None = None
    broken_rows: int = 0
    error: str = ""
    faults: Mapping[str, tuple[ColumnFault, ...]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Seen]] = field(default_factory=dict)
    whole: bool = False


def resolve_data_path(given: str, cwd: Path, builtin: Path) -> Path:
    """Absolute path of a data file; `builtin:` names one that comes with Muster."""
    if given.startswith(BUILTIN):
        return builtin / given.removeprefix(BUILTIN)
    return Path(cwd, Path(given).expanduser()).absolute()


def gather_data(config: DataConfig, cwd: Path, builtin: Path, hub: Hub) -> dict[str, DataFile]:
    """Every data file of the configuration by its key (`data.train_file`, `data.train_files.<name>`, …).

    A hub data set is there as `data.dataset_name`.
    """
    files: dict[str, DataFile] = {}
    if config.dataset_name and hub.fetch:
        answer = fetch_data(config.dataset_name, config.dataset_config_name, hub, config.streaming)
        files[HUB_KEY] = _of_hub(config.dataset_name, answer)
    given: dict[str, str | None] = {"data.train_file": config.train_file}
    given |= {f"{SOURCES}{name}": path for name, path in config.train_files.items()}
    given |= {"data.validation_file": config.validation_file, "data.test_file": config.test_file}
    for key, named in given.items():
        if named:
            look = look_at_shards if config.streaming and key == "data.train_file" else look_at
            files[key] = look(key, named, resolve_data_path(named, cwd, builtin))
    return files


def look_at_shards(key: str, given: str, path: Path) -> DataFile:
    """What is known of a folder or a pattern of data files, read one after the other: the head of the first."""
    if path.is_file():
        return look_at(key, given, path)
    try:
        found = sorted(path.iterdir() if path.is_dir() else path.parent.glob(path.name))
        shards = [each for each in found if each.is_file() and _suffix(each) in SUFFIXES and each.name[0] != "."]
        size = sum(each.stat().st_size for each in shards)
    except OSError as error:
        return DataFile(key, given, str(path), error=error.strerror or str(error))
    if not shards:
        kinds = ", ".join(SUFFIXES)
        return DataFile(
            key, given, str(path), error=f"neither a file nor a folder or pattern with data files ({kinds})"
        )
    first = look_at(key, given, shards[0])
    reason = f"{first.error} ({shards[0].name})" if first.error else ""
    rows = None if not first.rows or not first.size else round(first.rows * size / first.size)
    return replace(first, path=str(path), size=size, rows=rows, rows_estimated=True, error=reason)


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def look_at(key: str, given: str, path: Path) -> DataFile:
    """What is known of one file; what is wrong with it is recorded, not raised."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return DataFile(key, given, str(path), error="is not a file")
        suffix = _suffix(path)
        if suffix not in SUFFIXES:
            return DataFile(key, given, str(path), size, error=f"has the suffix {suffix or 'of nothing'!r}")
        if size == 0:
            return DataFile(key, given, str(path), error="is empty")
        if suffix == ".parquet":
            rows, columns = read_footer(path)
            return DataFile(key, given, str(path), size, rows, columns=columns)
        return _survey(key, given, path, suffix, size)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return DataFile(key, given, str(path), error=reason)


def _of_hub(name: str, answer: dict[str, Any]) -> DataFile:
    if "error" in answer:
        return DataFile(HUB_KEY, name, name, error=answer["error"])
    splits = answer["splits"]
    if "train" not in splits:
        return DataFile(HUB_KEY, name, name, error=f"has no split train; there are {', '.join(splits)}")
    train = splits["train"]
    first = tuple(train["first"])
    lengths = tuple(characters(row) for row in first)
    return DataFile(HUB_KEY, name, name, 0, train["rows"], False, tuple(train["columns"]), first, lengths)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")


def _survey(key: str, given: str, path: Path, suffix: str, size: int) -> DataFile:
    survey = Survey()
    with _open(path) as file:
        head = file.read(PARSED_BYTES)
        whole = len(head) < PARSED_BYTES
        if not whole:
            head = head[: head.rfind(b"\n") + 1] or head
        text = without_mark(head)
        if suffix == ".csv":
            _add_csv(survey, text)
        elif text.lstrip()[:1] == b"[" and suffix == ".json":
            _add_array(survey, file, size)
            whole = True
        else:
            _add_lines(survey, text)
        rows, estimated = (survey.rows, False) if whole else _rest(file, survey, head, size, suffix)
    return DataFile(
        key,
        given,
        str(path),
        size,
        rows,
        estimated,
        tuple(survey.columns),
        tuple(survey.first_rows),
        tuple(survey.lengths),
        survey.broken,
        survey.broken_rows,
        faults=survey.faults,
        values=survey.values,
        whole=whole,
    )


def _add_lines(survey: Survey, head: bytes) -> None:
    decoder = msgspec.json.Decoder()
    offset = 0
    for number, line in enumerate(head.split(b"\n"), 1):
        if line and not line.isspace():
            try:
                survey.add(decoder.decode(line), number)
            except (ValueError, RecursionError) as error:
                survey.refuse(number, not_utf8(line, offset) or str(error))
        offset += len(line) + 1


def _add_csv(survey: Survey, head: bytes) -> None:
    lines = head.splitlines(keepends=True)
    offsets = [0, *itertools.accumulate(len(line) for line in lines)]
    faults = {number: not_utf8(line, offsets[number - 1]) for number, line in enumerate(lines, 1)}
    reader = csv.DictReader(io.StringIO(head.decode(errors="replace"), newline=""), strict=True)
    if faults.get(1):
        raise ValueError(f"its header: {faults[1]}")
    before = 1
    for row in reader:
        fault = next((faults[line] for line in range(before + 1, reader.line_num + 1) if faults.get(line)), None)
        before = reader.line_num
        if fault:
            survey.refuse(before, fault)
        elif None in row or None in row.values():
            survey.refuse(before, f"does not have {len(reader.fieldnames or [])} columns as the header has")
        else:
            survey.add(row, before)


def _add_array(survey: Survey, file: IO[bytes], size: int) -> None:
    if size > COUNTED_BYTES:
        raise ValueError(
            f"is one JSON array of more than {COUNTED_BYTES >> 20} MiB; JSON lines are read piece by piece"
        )
    file.seek(0)
    try:
        rows = msgspec.json.decode(without_mark(file.read()))
    except RecursionError as error:
        raise ValueError(f"is nested too deeply: {error}") from error
    for number, row in enumerate(rows, 1):
        try:
            survey.add(row, number)
        except ValueError as error:
            survey.refuse(number, str(error))


def _rest(file: IO[bytes], survey: Survey, head: bytes, size: int, suffix: str) -> tuple[int, bool]:
    """Rows of a file whose head alone was parsed, and whether that is an estimate."""
    parsed = survey.rows + survey.broken_rows
    if suffix != ".csv" and isinstance(file, io.BufferedReader) and size <= COUNTED_BYTES:
        file.seek(len(head))
        return survey.rows + _count_lines(iter(lambda: file.read(1 << 20), b"")), False
    # gzip of text shrinks it to about a third; the plan says "about" beside any estimate
    content_bytes = size if isinstance(file, io.BufferedReader) else 3 * size
    return max(parsed, round(parsed * content_bytes / len(head))), True


def _count_lines(blocks: Iterable[bytes] | Iterator[bytes]) -> int:
    count, last = 0, b"\n"
    for block in blocks:
        count += block.count(b"\n") - block.count(b"\n\n")
        last = block[-1:]
    return count + (last != b"\n")
