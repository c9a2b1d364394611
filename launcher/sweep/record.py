"""What `sweep.json` holds: the points of a sweep and the command that gave them.

Points are only ever added (`muster sweep extend`); how each stands is in its own run folder, what was sent in the
ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from conf.layout import RunFolder
from conf.schema import RunConfig, SweepConfig
from launcher.plan.content import HASH_DIGITS, content_hash, run_name

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SweptPoint:
    """One point: the overrides that tell it from the others, its run, its `identity`."""

    overrides: list[str]
    run_id: str
    run_dir: str
    identity: str

    @property
    def label(self) -> str:
        """The point in a line: `optim.learning_rate=1e-05 train.seed=2`."""
        return " ".join(self.overrides) or self.run_id

    @property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.run_dir))


@dataclass(frozen=True)
class Sweep:
    """A sweep. `words` compose it again in `cwd`; `sweep` are its own keys."""

    id: str
    verb: str
    words: list[str]
    cwd: str
    points: list[SweptPoint]
    sweep: SweepConfig = field(default_factory=SweepConfig)
    schema_version: int = SCHEMA_VERSION


def identity(config: RunConfig) -> str:
    """A hash of what makes a point: the content of its run as it was composed, and its nodes, ranks and GPUs."""
    cluster = config.cluster
    size = f"{cluster.nodes} {cluster.ranks_per_node} {cluster.gpus_per_node}"
    return hashlib.sha256(f"{content_hash(config)} {size}".encode()).hexdigest()


def sweep_id(name: str, identities: Iterable[str]) -> str:
    """`<name>-<8 hex digits>` of what is swept, whatever its order."""
    text = "\n".join(sorted(set(identities)))
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]}"


def common_name(configs: Sequence[RunConfig]) -> str:
    """What a sweep is called: its own name, else the one its runs share."""
    given = configs[0].sweep.name
    if given:
        return given
    names = sorted({run_name(config) for config in configs})
    first, last = names[0], names[-1]
    shared = next((place for place in range(len(first)) if first[place] != last[place : place + 1]), len(first))
    return first[:shared].rstrip("-_.") or "sweep"


def encode_sweep(sweep: Sweep) -> bytes:
    """`sweep.json` as text."""
    return msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n"


def read_sweep(path: Path) -> Sweep:
    """The sweep in a `sweep.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was written by another version, or is none.
    """
    content = path.read_bytes()
    try:
        version = msgspec.json.decode(content).get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path} has schema version {version}; this Muster reads {SCHEMA_VERSION}")
        return msgspec.json.decode(content, type=Sweep)
    except (msgspec.DecodeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a sweep: {error}") from error
