"""The Python of a run's ranks, for verbs that need what is installed there, such as wandb."""

from __future__ import annotations

import shutil
import sys

from conf.layout import RunFolder
from conf.record import read_plan
from conf.schema import ContainerRuntime


def rank_argv(folder: RunFolder, verb: str) -> list[str]:
    """The argument vector that runs a verb of the code that travelled with a run.

    In the Python of the ranks where this machine has it, else in the one that runs here.
    """
    cluster = read_plan(folder.run_json).config.cluster
    plain = cluster.container.runtime is ContainerRuntime.none
    python = cluster.python if plain and cluster.python and shutil.which(cluster.python) else sys.executable
    return [python, "-I", str(folder.muster_zip), verb, str(folder.path)]
