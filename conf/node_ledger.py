"""The ledger of bad nodes: what was seen of a node, in which run, and until when it counts.

One file a note, made exclusively and never changed, so that several people may write on a shared file system without a
lock. Names and contents in a shared ledger come from others: what is not a note is left out, and a node's name has to
be one before it reaches Slurm. Evidence is strong (`ENOUGH` by itself) or weak (two runs
have to say it).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from conf.others_files import printable, read_end

STRONG, WEAK, FORGET = 2, 1, 0
ENOUGH = 2
"""Weight from which on a node is left out."""

DEFAULT_FOLDER = "~/.local/state/muster/nodes"
"""Below it, a folder for each cluster."""

EVIDENCE_LETTERS = 500
LARGEST_NOTE = 8192
MOST_NOTES = 2000
DAY_S = 86400.0

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def is_named(folder: str) -> bool:
    """Whether a ledger is one that somebody named: a person's own lies at home, which nodes may not have."""
    return bool(folder) and DEFAULT_FOLDER.removeprefix("~") not in folder


@dataclass(frozen=True)
class Note:
    """One thing seen of a node. Times in seconds since 1970; a note with weight `FORGET` takes back those before it."""

    node: str
    time: float
    until: float
    cause: str
    evidence: str
    weight: int
    user: str = ""
    run: str = ""
    attempt: int = -1


@dataclass(frozen=True)
class Suspect:
    """A node with notes against it, the newest last."""

    node: str
    notes: tuple[Note, ...]

    @property
    def weight(self) -> int:
        """Of all notes; a run counts once, with its strongest: what fails it again and again may be its own fault."""
        strongest: dict[tuple[str, str], int] = {}
        for note in self.notes:
            run = (note.user, note.run)
            strongest[run] = max(note.weight, strongest.get(run, 0))
        return sum(strongest.values())

    @property
    def is_bad(self) -> bool:
        """Whether the evidence is enough to do without the node."""
        return self.weight >= ENOUGH

    @property
    def until(self) -> float:
        """When the last note expires."""
        return max(note.until for note in self.notes)

    def in_words(self) -> str:
        """`node7 (gpus: 7 of 8; 2 runs)`."""
        newest = self.notes[-1]
        count = len({note.run for note in self.notes})
        more = f"; {count} runs" if count > 1 else ""
        return f"{self.node} ({newest.cause}: {newest.evidence}{more})"


def is_node_name(name: str) -> bool:
    """Whether it is the name of one node, and no list or option."""
    return _NODE.fullmatch(name) is not None


def write_note(folder: Path, note: Note) -> None:
    """Add a note, and remove what this user's notes have become too old.

    The user's name is filled in. Only its writer may change a note, whoever may write in the folder.

    Raises:
        ValueError: the node's name is none.
        OSError: the folder cannot be written in.
    """
    if not is_node_name(note.node):
        raise ValueError(f"{note.node!r} is not the name of a node")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signed = replace(note, user=user_name(), evidence=note.evidence[:EVIDENCE_LETTERS])
    mode = folder.stat().st_mode & 0o644
    path = folder / f"{int(note.time * 1000):014d}-{note.node}-{secrets.token_hex(4)}.json"
    beside = path.with_name(f".{path.name}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(msgspec.json.encode(signed))
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    _remove_expired(folder, note.time)


def read_suspects(folder: Path, now: float) -> list[Suspect]:
    """The nodes with evidence against them that still counts, the worst first; none where there is no ledger."""
    by_node: dict[str, list[Note]] = {}
    for _, note in _read(folder):
        if note.weight == FORGET:
            by_node.pop(note.node, None)
        elif note.until > now:
            by_node.setdefault(note.node, []).append(note)
    suspects = [Suspect(node, tuple(notes)) for node, notes in by_node.items()]
    return sorted(suspects, key=lambda suspect: (-suspect.weight, suspect.node))


def left_out(suspects: Iterable[Suspect], nodes: Sequence[str], budget: int) -> list[Suspect]:
    """Which of the bad ones among `nodes` are done without: the worst, `budget` of them at most."""
    known = set(nodes)
    return [suspect for suspect in suspects if suspect.is_bad and suspect.node in known][: max(0, budget)]


def budget_of(asked: int | None, partition_nodes: int, needed: int) -> int:
    """How many nodes may be left out: as asked, else a tenth, one at least; never so many that too few are left."""
    wanted = max(1, partition_nodes // 10) if asked is None else asked
    return max(0, min(wanted, partition_nodes - needed))


def user_name() -> str:
    """The name of this user, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _read(folder: Path) -> list[tuple[Path, Note]]:
    """The notes by time, the newest `MOST_NOTES`; what cannot be read as one is left out."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:
        return []
    found = []
    for name in names[-MOST_NOTES:]:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            note = msgspec.json.decode(read_end(folder / name, LARGEST_NOTE), type=Note)
            if is_node_name(note.node) and note.weight in (STRONG, WEAK, FORGET):
                found.append((folder / name, printable(note)))
    return sorted(found, key=lambda pair: pair[1].time)


def _remove_expired(folder: Path, now: float) -> None:
    for path, note in _read(folder):
        if note.until < now:
            with contextlib.suppress(OSError):
                if path.stat().st_uid == os.getuid():
                    path.unlink()
