"""`ledger.jsonl` of a sweep: a line before and after every sbatch, so that whatever breaks off is seen.

An entry is about an array (`array` is its number) or about one run's own job (`run`), for one purpose. `data` tells
which data a job prepares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.runs.read import read_lines
from launcher.runs.submissions import TRAIN, append_line
from launcher.sweep.folder import SweepFolder

SENDING, SENT, REFUSED = "sending", "sent", "refused"


@dataclass(frozen=True)
class Entry:
    """How far one submission of a sweep came. `indices` are the elements that were asked for."""

    event: str
    purpose: str
    array: int | None = None
    run: str = ""
    indices: list[int] = field(default_factory=list)
    job_id: str = ""
    data: str = ""
    time: float = 0.0

    @property
    def suffix(self) -> str:
        """What tells the script of its purpose from that of the training."""
        return "" if self.purpose == TRAIN else self.purpose

    @property
    def subject(self) -> tuple[str, int | str]:
        return (self.purpose, self.run if self.array is None else self.array)


class Ledger:
    """The ledger of one sweep."""

    def __init__(self, folder: SweepFolder) -> None:
        self.path: Path = folder.ledger

    def write(self, event: str, purpose: str, **values: Any) -> None:
        """Append a line and flush it to the disk."""
        append_line(self.path, {"event": event, "purpose": purpose, **values})

    def entries(self) -> list[Entry]:
        """The last word on each submission, in the order in which they were first tried."""
        last: dict[tuple[str, int | str], Entry] = {}
        for line in read_lines(self.path):
            entry = Entry(
                event=str(line.get("event", "")),
                purpose=str(line.get("purpose", "")),
                array=line["array"] if isinstance(line.get("array"), int) else None,
                run=str(line.get("run", "")),
                indices=[index for index in line.get("indices") or [] if isinstance(index, int)],
                job_id=str(line.get("job_id", "")),
                data=str(line.get("data", "")),
                time=float(line.get("time", 0.0)),
            )
            before = last.get(entry.subject)
            if before is not None and not entry.indices:
                entry = replace(entry, indices=before.indices, data=entry.data or before.data)
            last[entry.subject] = entry
        return list(last.values())

    def arrays(self, event: str) -> list[Entry]:
        """The arrays of which that was the last word."""
        return [entry for entry in self.entries() if entry.array is not None and entry.event == event]

    def job_ids(self) -> list[str]:
        """What sbatch answered to this sweep, each once."""
        sent = (entry.job_id for entry in self.entries() if entry.event == SENT)
        return list(dict.fromkeys(job_id for job_id in sent if job_id))


def ranges(indices: Sequence[int]) -> str:
    """Indices as `--array` takes them: `0-2,5`."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], index]
        else:
            parts.append([index])
    return ",".join("-".join(map(str, part)) for part in parts)
