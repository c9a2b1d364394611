"""What a run has saved, as far as the launcher needs to know: which ranks wrote the newest checkpoint, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from conf.layout import RunFolder
from conf.record import Plan
from launcher.problems import ConfigurationError, Problem


@dataclass(frozen=True)
class Saved:
    """A checkpoint's step, the number of ranks that wrote it, and their ZeRO stage."""

    step: int
    world_size: int
    zero_stage: int


def find_saved(folder: RunFolder) -> Saved | None:
    """The newest checkpoint whose manifest can be read; None where there is none. Only the ranks verify it."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in folder.checkpoints.glob("step-*"))
    for step in sorted((int(name[1]) for name in found if name), reverse=True):
        try:
            return msgspec.json.decode(folder.manifest(step).read_bytes(), type=Saved)
        except (OSError, msgspec.DecodeError, RecursionError):
            continue
    return None


def require_loadable(folder: RunFolder, plan: Plan) -> None:
    """Refuse a plan that cannot load what the run has saved, before it waits in a queue for that.

    Raises:
        ConfigurationError: the newest checkpoint is of a ZeRO stage whose states are laid out in another way.
    """
    saved, stage = find_saved(folder), plan.config.parallel.zero_stage
    if saved is None or saved.zero_stage == stage or {saved.zero_stage, stage} == {1, 2}:
        return
    rule = (
        f"cannot load the checkpoint of step {saved.step}, which is of ZeRO-{saved.zero_stage}: states are converted "
        "between numbers of ranks, and between stages 1 and 2 alone"
    )
    raise ConfigurationError([Problem("parallel.zero_stage", str(stage), rule, str(saved.zero_stage))])


def conversion(folder: RunFolder, plan: Plan) -> str:
    """That another number of ranks takes up the newest checkpoint, in words; empty where it is the same."""
    saved, ranks = find_saved(folder), plan.topology.world_size
    if saved is None or saved.world_size == ranks:
        return ""
    how = "goes on at" if saved.zero_stage == 0 else "will be converted for"
    return f"step {saved.step} was saved by {saved.world_size} ranks and {how} {ranks}"
