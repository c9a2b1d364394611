"""What torch's flight recorder wrote of a rank's collectives, read without torch: who waits in which, who did not come.

A recording is JSON as `torch._C._distributed_c10d._dump_fr_trace_json` gives it, several of them in an array, or the
pickle that NCCL's own watchdog writes; that holds plain values alone, so no class is ever loaded from it. Groups are
known by the name that torch gives them, which is the same on all ranks; collectives of a group are numbered from 1.

Source: torch/csrc/distributed/c10d/FlightRecorderDetail.hpp, version 2.10 of the format.
"""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORLD = "default_pg"
"""torch's word for the group of all ranks."""


@dataclass(frozen=True)
class Collective:
    """The `number`-th collective of a group, such as `gloo:all_reduce`."""

    group: str
    number: int
    name: str


@dataclass(frozen=True)
class Absence:
    """A collective in which `waiting` ranks are, and to which the `missing` ones did not come."""

    collective: Collective
    waiting: tuple[int, ...]
    missing: tuple[int, ...]

    def in_words(self) -> str:
        """One line: `gloo:all_reduce (number 41): ranks 0, 2 wait, rank 1 did not come`."""
        number = f"{self.collective.name} (number {self.collective.number})"
        waiting, missing = (_ranks(ranks) for ranks in (self.waiting, self.missing))
        return f"{number}: {waiting} {'waits' if len(self.waiting) == 1 else 'wait'}, {missing} did not come"


def read_newest(path: Path) -> dict[str, Collective]:
    """The newest collective of each group in a recording.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no recording.
    """
    content = path.read_bytes()
    try:
        found = _Plain(io.BytesIO(content)).load() if content[:1] == b"\x80" else json.loads(content)
        newest: dict[str, Collective] = {}
        for one in found if isinstance(found, list) else [found]:
            for collective in _collectives(one):
                before = newest.get(collective.group)
                if before is None or collective.number > before.number:
                    newest[collective.group] = collective
        return newest
    except (pickle.UnpicklingError, KeyError, TypeError, IndexError, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is no recording of torch's flight recorder: {error}") from error


def absences(newest: Mapping[int, Mapping[str, Collective]]) -> list[Absence]:
    """Where ranks wait for others, from the newest collectives of each rank; the group with most of them waiting first.

    A rank counts to a group once it has been in it; to that of all ranks it counts in any case.
    """
    found = []
    for group in sorted({name for own in newest.values() for name in own}):
        places = {rank: own[group] for rank, own in newest.items() if group in own}
        if group.endswith(WORLD):
            places |= {rank: Collective(group, 0, "") for rank in newest if rank not in places}
        last = max(place.number for place in places.values())
        missing = tuple(sorted(rank for rank, place in places.items() if place.number < last))
        if missing:
            came = {rank: place for rank, place in places.items() if place.number == last}
            found.append(Absence(next(iter(came.values())), tuple(sorted(came)), missing))
        else:
            found += _strangers(places)
    return sorted(found, key=lambda absence: -len(absence.waiting))


def _strangers(places: Mapping[int, Collective]) -> Iterator[Absence]:
    """Ranks that are in another collective than most, though they have counted as many."""
    names = Counter(place.name for place in places.values())
    if len(names) < 2:
        return
    usual, _ = names.most_common(1)[0]
    meant = next(place for place in places.values() if place.name == usual)
    waiting, missing = (
        tuple(sorted(rank for rank, place in places.items() if (place.name == usual) is same)) for same in (True, False)
    )
    yield Absence(meant, waiting, missing)


def _collectives(recording: Mapping[str, Any]) -> Iterator[Collective]:
    for entry in recording.get("entries") or []:
        if not entry.get("is_p2p"):
            yield Collective(
                ":".join(entry["process_group"]), int(entry["collective_seq_id"]), str(entry["profiling_name"])
            )


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and mappings, and nothing that has a class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants {module}.{name}")
