"""What a run has saved, as far as the launcher needs to know: which world size wrote the newest checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from conf.layout import RunFolder
from conf.record import Plan
from launcher.problems import ConfigurationError, Problem


@dataclass(frozen=True)
class Saved:
    """A checkpoint's step, and the number of ranks that wrote it."""

    step: int
    world_size: int


def find_saved(folder: RunFolder) -> Saved | None:
    """The newest checkpoint whose manifest can be read; None where there is none. Only the ranks verify it."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in folder.checkpoints.glob("step-*"))
    for step in sorted((int(name[1]) for name in found if name), reverse=True):
        try:
            return msgspec.json.decode(folder.manifest(step).read_bytes(), type=Saved)
        except (OSError, msgspec.DecodeError):
            continue
    return None


def require_same_ranks(folder: RunFolder, plan: Plan) -> None:
    """Refuse a plan whose ranks cannot load what the run has saved, before it waits in a queue for that.

    Raises:
        ConfigurationError: the newest checkpoint is of another world size.
    """
    saved, topology = find_saved(folder), plan.topology
    if saved is None or saved.world_size == topology.world_size:
        return
    key, value, per = "cluster.nodes", topology.nodes, topology.ranks_per_node
    if topology.nodes == 1 or saved.world_size % per:
        key, value, per = "cluster.ranks_per_node", topology.ranks_per_node, topology.nodes
    nearest = f"{key}={saved.world_size // per}" if saved.world_size % per == 0 else f"{saved.world_size} ranks"
    rule = (
        f"makes {topology.world_size} ranks, but the checkpoint of step {saved.step} was written by "
        f"{saved.world_size}, and checkpoints are not converted between world sizes"
    )
    raise ConfigurationError([Problem(key, str(value), rule, nearest)])
