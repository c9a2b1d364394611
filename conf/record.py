"""What `run.json` holds: the frozen plan of a run, written by the launcher and read by the nodes.

The nodes run the code that travelled with the file, so both sides are one version; the schema version guards against a
folder that a person moved between versions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from conf.choice import Choice
from conf.estimate import Estimate
from conf.forecast import Forecast
from conf.schema import Continuation, RunConfig

SCHEMA_VERSION = 1


class Device(Enum):
    """What the ranks compute on."""

    cpu = "cpu"
    gpu = "gpu"


@dataclass(frozen=True)
class Topology:
    """Where the ranks are. `start` is `fork` or `exec`, resolved."""

    nodes: int
    ranks_per_node: int
    device: Device
    start: str
    threads_per_rank: int

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Batch:
    """The batch equation at one world size.

    Unpacked: global = micro × accumulation × ranks, exactly. Packed: a micro batch is one row of at most
    micro × `data.max_length` tokens, and `accumulation` is the expected number of rows a rank and step.
    """

    world_size: int
    global_batch_size: int
    micro_batch_size: int
    accumulation: int


@dataclass(frozen=True)
class Layout:
    """What changes with the world size: the batch and DeepSpeed's JSON."""

    batch: Batch
    deepspeed: dict[str, Any]


@dataclass(frozen=True)
class Script:
    """A person's own program: `path` and the `folder` where it starts, relative to the snapshot of the project."""

    path: str
    folder: str
    argv: list[str]


@dataclass(frozen=True)
class Plan:
    """A configuration, resolved. Nothing in it is worked out later.

    `layouts` has the planned world size and every other one at which the run may resume. `export_at_end` is
    `checkpoint.export`, resolved. `parameters` are the model's without an adapter, `quantized_parameters` those of
    them that are kept in 4 or 8 bits, `trainable_parameters` those that are trained, the adapter's included; None
    where no formula counts them. `continuation` is `requeue`, `chain` or `none`. `memory` is what a rank, a node and
    the disk are expected to hold, `time` how long the run is expected to take, `choice` what `parallel=auto` chose
    for it. `script` is what runs instead of Muster's own training: its layouts say nothing but the world sizes.
    `notes` are what was derived or ignored, in words; `warnings` what deserves a look.
    """

    run_id: str
    run_dir: str
    config: RunConfig
    topology: Topology
    layouts: dict[int, Layout]
    model_type: str
    parameters: int | None
    packing: str
    export_at_end: bool
    expected_steps: int | None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    trainable_parameters: int | None = None
    quantized_parameters: int = 0
    continuation: Continuation = Continuation.requeue
    script: Script | None = None
    memory: Estimate | None = None
    time: Forecast | None = None
    choice: Choice | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def layout(self) -> Layout:
        """The layout at the planned world size."""
        return self.layouts[self.topology.world_size]

    @property
    def wandb_id(self) -> str:
        """The id of its run on W&B: folders of several people in a project may hold runs of the same id."""
        return f"{self.run_id}-{hashlib.sha256(self.run_dir.encode()).hexdigest()[:6]}"


class UnreadableError(ValueError):
    """A `run.json` that another version wrote, or that holds no plan."""


def encode_plan(plan: Plan) -> str:
    """`run.json` as text; equal plans give equal bytes."""
    plain = msgspec.to_builtins(plan, str_keys=True)  # JSON's keys are text; a world size is a number
    return msgspec.json.format(msgspec.json.encode(plain, order="deterministic"), indent=2).decode() + "\n"


def read_plan(path: Path) -> Plan:
    """The plan in a `run.json`.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: it was written by another version, or is not a plan.
    """
    content = path.read_bytes()
    try:
        version = msgspec.json.decode(content).get("schema_version")
        if version != SCHEMA_VERSION:
            raise UnreadableError(f"{path} has schema version {version}; this Muster reads {SCHEMA_VERSION}")
        return msgspec.json.decode(content, type=Plan)
    except (msgspec.DecodeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{path} is not a plan: {error}") from error
