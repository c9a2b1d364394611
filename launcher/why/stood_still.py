"""What each rank was doing when an attempt hung: from its stacks, and from torch's flight recorder. Reads only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conf.flight_recorder import Collective, absences, read_newest
from conf.layout import Attempt

FRAMES = 3
RANKS = 6
_STACK = re.compile(r"node(\d+)-rank(\d+)\.txt")
_RECORDING = re.compile(r"node\d+-(?:rank(\d+)-collectives\.json|nccl-rank(\d+))")
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+) in (\S+)')


def places(attempt: Attempt, first: int | None) -> Iterator[str]:
    """A line a rank, the one at fault first: its phase and step, and the innermost Python lines of its main thread."""
    found = sorted(_named(attempt.stacks, _STACK), key=lambda item: (item[0] != first, item[0]))
    for rank, path in found[:RANKS]:
        head, stack = _read_stack(path)
        at = " ".join(f"{name} {head[name]}" for name in ("phase", "step") if head.get(name) not in (None, ""))
        yield (
            f"rank {rank} ({at}): {' ← '.join(stack) or 'no Python stack'}"
            if at
            else f"rank {rank}: {' ← '.join(stack)}"
        )
    if len(found) > RANKS:
        yield f"… {len(found) - RANKS} more in {attempt.stacks.name}/"


def collectives(attempt: Attempt) -> list[str]:
    """In which collectives ranks wait for others that did not come, by the flight recorder."""
    newest: dict[int, dict[str, Collective]] = {}
    for rank, path in _named(attempt.stacks, _RECORDING):
        try:
            newest.setdefault(rank, {}).update(read_newest(path))
        except (OSError, ValueError):
            continue
    return [absence.in_words() for absence in absences(newest)]


def _named(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, Path]]:
    """The files of a name, with the rank in it."""
    for path in sorted(folder.glob("*")):
        found = pattern.fullmatch(path.name)
        if found:
            yield int(next(part for part in reversed(found.groups()) if part is not None)), path


def _read_stack(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The head of a stack file, and the innermost frames of its last thread, which is the main one."""
    try:
        lines = path.read_text(errors="replace").splitlines()
        head = json.loads(lines[0]) if lines else {}
    except (OSError, ValueError):
        return {}, []
    frames: list[str] = []
    for line in lines[1:]:
        if "most recent call first" in line:
            frames = []
        found = _FRAME.match(line)
        if found:
            frames.append(f"{Path(found[1]).name}:{found[2]} {found[3]}")
    return head if isinstance(head, dict) else {}, frames[:FRAMES]
