"""Reading a run folder: metrics, events, attempts. Reads only; never a whole large file where its end is enough.

A line that another process is still writing, or that a full disk cut, is left out. Where two attempts wrote the same
step, the last attempt's value wins.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from conf.layout import Attempt, RunFolder

Line = dict[str, Any]
TAIL_BYTES = 64 * 1024
WHOLE_BYTES = 256 * 1024
SAMPLE_BYTES = 8 * 1024


def parse_line(text: bytes | str) -> Line | None:
    """One JSON object, or None where the line is broken or holds something else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def read_lines(path: Path) -> Iterator[Line]:
    """All complete lines of a JSON-lines file, one at a time; nothing where there is no file."""
    try:
        with path.open("rb") as file:
            for raw in file:
                if raw.endswith(b"\n") and (line := parse_line(raw)) is not None:
                    yield line
    except FileNotFoundError:
        return


def read_tail(path: Path, size: int = TAIL_BYTES) -> list[Line]:
    """The complete lines within the last `size` bytes, oldest first."""
    return [line for raw in tail_lines(path, size) if (line := parse_line(raw)) is not None]


def tail_lines(path: Path, size: int = TAIL_BYTES) -> list[bytes]:
    """The raw complete lines within the last `size` bytes of a text file; empty where there is no file."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            start = max(0, length - size)
            file.seek(max(0, start - 1))
            content = file.read()
    except FileNotFoundError:
        return []
    if start:
        content = content[1:] if content.startswith(b"\n") else content.partition(b"\n")[2]
    return content[: content.rfind(b"\n") + 1].splitlines()


def sample_lines(path: Path, end: int, count: int, word: bytes) -> list[Line]:
    """Lines that hold `word` from before byte `end`, oldest first: all of a small file, `count` of a large one.

    Those of a large one are spread over it, and little of it is read, however long it is.
    """
    try:
        with path.open("rb") as file:
            if end <= WHOLE_BYTES:
                found = [raw for raw in file.read(end).split(b"\n") if word in raw]
            else:
                found = [raw for place in range(count) if (raw := _line_at(file, end * place // count, word))]
    except FileNotFoundError:
        return []
    return [line for raw in dict.fromkeys(found) if (line := parse_line(raw)) is not None]


def _line_at(file: BinaryIO, offset: int, word: bytes) -> bytes:
    """The first whole line with `word` a little after an offset."""
    file.seek(max(0, offset - 1))
    _, _, content = file.read(SAMPLE_BYTES).partition(b"\n") if offset else ("", "", file.read(SAMPLE_BYTES))
    return next((raw for raw in content.split(b"\n")[:-1] if word in raw), b"")


def last_text_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log as text, the last one also where its end is still missing."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - max(TAIL_BYTES, count * 200)))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    # A progress bar rewrites its line with \r: only what a person would see at the end counts.
    lines = [line.rsplit("\r", 1)[-1] for line in text.rstrip("\r\n").split("\n")]
    return lines[-count:] if text.strip() else []


def list_attempts(folder: RunFolder) -> list[Attempt]:
    """The attempts in the order of their numbers."""
    try:
        names = [entry.name for entry in folder.attempts.iterdir() if re.fullmatch(r"\d+", entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder.attempt(number) for number in sorted(int(name) for name in names)]


def read_job(attempt: Attempt) -> Line:
    """`job.json` of an attempt; empty while body.sh has not written it."""
    try:
        return parse_line(attempt.job.read_bytes()) or {}
    except FileNotFoundError:
        return {}


def log_file(attempt: Attempt, rank: int | None = None) -> Path | None:
    """The log of a rank; without one asked for, rank 0's, else the agent's, else the job script's."""
    found = sorted(attempt.logs.glob(f"node*-rank{rank or 0}.log"))
    if found or rank is not None:
        return found[0] if found else None
    return next((path for path in (attempt.agent_log(0), attempt.job_log) if path.exists()), None)


def number(value: object) -> float | None:
    """A metric as a number; metrics.jsonl spells what JSON cannot as "nan", "inf" and "-inf"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


class Follower:
    """Follows a growing JSON-lines file: each `read()` gives the complete lines since the one before."""

    def __init__(self, path: Path, from_end: bool = False) -> None:
        self.path = path
        self.offset = path.stat().st_size if from_end and path.exists() else 0

    @classmethod
    def near_end(cls, path: Path, size: int = TAIL_BYTES) -> Follower:
        """One that begins with the complete lines within the last `size` bytes; `offset` is where they begin."""
        follower = cls(path)
        try:
            with path.open("rb") as file:
                start = max(0, file.seek(0, 2) - size)
                if start:
                    file.seek(start - 1)
                    start += len(file.readline()) - 1  # to the end of the line that began before
        except FileNotFoundError:
            start = 0
        follower.offset = start
        return follower

    def read_raw(self) -> list[bytes]:
        """New complete lines, raw. A file that became shorter is read from its start."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.offset:
                    self.offset = 0
                file.seek(self.offset)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self.offset += len(complete)
        return complete.splitlines()

    def read(self) -> list[Line]:
        """New complete lines that hold a JSON object."""
        return [line for raw in self.read_raw() if (line := parse_line(raw)) is not None]
