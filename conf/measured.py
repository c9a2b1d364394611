"""What runs measured beside what their plans predicted: the ledger by which the next plans of a site are corrected.

A file for each user, a line for each run, added by a single append; nobody changes another's file. Names and numbers in
a shared folder come from others: what is no record is left out, and no number is taken that cannot be.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from conf.others_files import printable, read_end
from conf.schema import Offload, RunConfig

DEFAULT_FOLDER = "muster/measured"
"""Below the person's folder of states, `$XDG_STATE_HOME` or ~/.local/state."""

MOST_FILES, MOST_BYTES, LONGEST_LINE = 50, 1 << 18, 4096
"""Files of the ledger that are read, bytes of the end of each, bytes of a line."""

MOST_TIMES = 20.0
"""Ratios beyond it, or below its inverse, are mistakes of something else than a formula."""


@dataclass(frozen=True)
class Measured:
    """One run: what its plan was like, bytes and seconds as its formulas (uncorrected) predicted and as it was.

    `device` is the kind of GPU, or `cpu` with its cores a rank. `memory` is of a rank's GPU, as torch allocated it, or
    on CPUs of a node. 0 stands for what was not measured.
    """

    architecture: str
    device: str
    stage: int
    offload: str
    checkpointing: bool
    method: str
    precision: str
    packing: str
    nodes: int
    ranks: int
    parameters: int
    predicted_memory: int = 0
    memory: int = 0
    predicted_step_s: float = 0.0
    step_s: float = 0.0
    time: float = 0.0
    run: str = ""

    @property
    def memory_ratio(self) -> float | None:
        """Measured to predicted; None where one of them is not known."""
        return _ratio(self.memory, self.predicted_memory)

    @property
    def time_ratio(self) -> float | None:
        """As `memory_ratio`, of a step's time."""
        return _ratio(self.step_s, self.predicted_step_s)


def _ratio(measured: float, predicted: float) -> float | None:
    if not (math.isfinite(measured) and math.isfinite(predicted)) or measured <= 0 or predicted <= 0:
        return None
    ratio = measured / predicted
    return ratio if 1 / MOST_TIMES <= ratio <= MOST_TIMES else None


def describe(config: RunConfig, device: str, architecture: str, packing: str) -> Measured:
    """What of a configuration decides which runs are like it."""
    parallel = config.parallel
    on_host = [name for name in ("optimizer", "param") if getattr(parallel, f"offload_{name}") is Offload.cpu]
    return Measured(
        architecture=architecture,
        device=device,
        stage=parallel.zero_stage,
        offload="+".join(on_host),
        checkpointing=config.train.gradient_checkpointing,
        method=config.method.name,
        precision=config.train.precision.value,
        packing=packing,
        nodes=config.cluster.nodes,
        ranks=0,
        parameters=0,
    )


def add_measured(folder: Path, record: Measured) -> None:
    """Add a run to this user's file; the folder is made, for this user alone, where there is none.

    Raises:
        OSError: the folder cannot be written in, or another's file lies in the place of this user's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = folder.stat().st_mode & 0o644
    line = msgspec.json.encode(record) + b"\n"
    if len(line) > LONGEST_LINE:
        raise OSError("the record is too long")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(folder / f"{os.getuid()}.jsonl", flags, mode)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise OSError(f"{file.name} is not a file of this user")
        file.write(line)


def read_measured(folder: Path) -> tuple[Measured, ...]:
    """The records of all users, oldest first, of a run the last; none where there is no ledger."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix == ".jsonl" and path.stem.isdigit()]
    except OSError:
        return ()
    found: list[Measured] = []
    for path in sorted(paths)[:MOST_FILES]:
        with contextlib.suppress(OSError):
            found += _records(read_end(path, MOST_BYTES, owner=path.stem))
    last = {(record.run, record.stage, record.device): record for record in sorted(found, key=lambda one: one.time)}
    return tuple(sorted(last.values(), key=lambda record: record.time))


def _records(content: bytes) -> list[Measured]:
    found = []
    for line in content.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            record = msgspec.json.decode(line, type=Measured)
            if record.memory_ratio is not None or record.time_ratio is not None:
                found.append(printable(record))
    return found
