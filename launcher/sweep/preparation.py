"""Data that points of a sweep share, and the job that prepares it once for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from conf.files import write_atomically
from conf.layout import RunFolder
from conf.record import Plan
from conf.schema import PrepareWhere
from launcher.plan.content import plain
from launcher.render.side_jobs import prepare_script
from launcher.sweep.arrays import Member

KEY_DIGITS = 16
_SECTIONS = ("data", "model")
_TASK_KEYS = ("name", "problem_type", "labels")


def data_key(plan: Plan) -> str:
    """A hash of what decides on a run's documents and tokenizer; not of the seed, which only orders them."""
    config = plain(plan.config)
    shared = [*(config[section] for section in _SECTIONS), *(config["task"][key] for key in _TASK_KEYS)]
    text = json.dumps([*shared, config["cluster"]["slurm_conf"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def prepares(sharing: Sequence[Member]) -> bool:
    """Whether a job of its own prepares the data of these members: several, or one that asks for it."""
    first = sharing[0]
    if first.plan.script is not None:  # it reads its data itself
        return False
    if first.plan.config.data.prepare is PrepareWhere.inline:
        return False
    return len(sharing) > 1 or first.folder.job.prepare_sbatch.exists()


def write_prepare_script(folder: RunFolder, plan: Plan) -> None:
    """The script of the data step, in the folder of the run that prepares for the others."""
    if not folder.job.prepare_sbatch.exists():
        mode = folder.path.stat().st_mode & 0o666
        write_atomically(folder.job.prepare_sbatch, prepare_script(plan).encode(), mode)
