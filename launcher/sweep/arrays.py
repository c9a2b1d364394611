"""Points of a sweep put together into Slurm arrays: those that ask for the same, as many as a site allows. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from conf.layout import RunFolder
from conf.record import Plan
from launcher.sweep.folder import SweepFolder
from launcher.sweep.record import SweptPoint
from slurm import options
from slurm.step import checked_lines

OWN = ("job-name", "output", "chdir")
"""Options of a run's own script that an array has in its own way."""

_MARK = "#SBATCH --"


@dataclass(frozen=True)
class Member:
    """A point that is to be sent, with the script that would send it alone."""

    point: SweptPoint
    plan: Plan
    script: str

    @property
    def folder(self) -> RunFolder:
        return self.point.folder

    @property
    def resources(self) -> tuple[str, ...]:
        """What its job asks for: the cluster, and its `#SBATCH` lines but for those that name the run."""
        return (self.plan.config.cluster.slurm_conf or "", *resource_lines(self.script))


@dataclass(frozen=True)
class Batch:
    """Points for one sbatch: an array, or one alone, which is sent as the run's own job."""

    members: tuple[Member, ...]

    @property
    def plan(self) -> Plan:
        """The first one's, for all that is the same in all of them."""
        return self.members[0].plan

    @property
    def is_array(self) -> bool:
        return len(self.members) > 1


def resource_lines(script: str) -> list[str]:
    """The `#SBATCH` lines of a run's script that say what it asks for."""
    lines = [line for line in script.splitlines() if line.startswith(_MARK)]
    return [line for line in lines if line.removeprefix(_MARK).partition("=")[0] not in OWN]


def batches(members: Sequence[Member], limit: int | None) -> list[Batch]:
    """The members by what they ask for, in their order, at most `limit` in an array.

    A `limit` below 2 stands for a site without arrays.
    """
    alike: dict[tuple[str, ...], list[Member]] = {}
    for member in members:
        alike.setdefault(member.resources, []).append(member)
    found = []
    for group in alike.values():
        size = max(1, limit) if limit is not None else len(group)
        found += [Batch(tuple(group[start : start + size])) for start in range(0, len(group), size)]
    return found


def array_script(folder: SweepFolder, number: int, batch: Batch, verb: str = "") -> str:
    """The script of an array. It is the same for all elements and holds no value of any of them.

    Raises:
        slurm.options.OptionError: the folder's name cannot be written into it.
    """
    own = options.render(
        {
            "job-name": folder.path.name,
            "output": f"{options.literal_path(str(folder.logs))}/%A_%a.log",
            "chdir": str(folder.path),
        }
    )
    lines = [
        "#!/bin/bash",
        *own,
        *resource_lines(batch.members[0].script),
        "",
        "# Element i takes line i, from 0: the folder of a run.",
        f"mapfile -t runs <{shlex.quote(str(folder.points(number)))}",
        "run=${runs[SLURM_ARRAY_TASK_ID]:?}",
        'cd "$run" || exit 1',
        f'exec bash "$run/job/body.sh" batch "$run" {verb}'.rstrip(),
    ]
    return "".join(f"{line}\n" for line in checked_lines(lines))


def array_points(batch: Batch) -> str:
    """`NN.points`."""
    return "".join(f"{line}\n" for line in checked_lines([member.point.run_dir for member in batch.members]))
