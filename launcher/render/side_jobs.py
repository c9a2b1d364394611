"""The other jobs of a run on Slurm: the data step before it on one node without GPUs, the export after it."""

from __future__ import annotations

from dataclasses import replace

from conf.record import Plan
from conf.schema import ClusterKind, Continuation, PrepareWhere
from launcher.facts.facts import Facts
from launcher.plan.rows import training_data
from launcher.render.job import batch_script

PREPARE_BYTES = 1 << 30
"""Training data from which `data.prepare=auto` does not keep the ranks' nodes waiting: minutes of tokenising."""


def prepares_before(plan: Plan, facts: Facts) -> bool:
    """Whether a CPU job prepares the data before the ranks' job."""
    config = plan.config
    if config.cluster.kind is not ClusterKind.slurm or config.data.prepare is PrepareWhere.inline:
        return False
    if config.data.prepare is PrepareWhere.job:
        return True
    return sum(file.size for file in training_data(facts)) >= PREPARE_BYTES


def prepare_script(plan: Plan) -> str:
    """`job/prepare.sbatch`."""
    cluster = replace(plan.config.cluster, nodes=1, gpus_per_node=0, gres=None, nodelist=None)
    alone = replace(plan, config=replace(plan.config, cluster=cluster), continuation=Continuation.none)
    return batch_script(alone, "prepare")


def export_script(plan: Plan, exclude: str | None) -> str:
    """`job/export.sbatch`: the ranks' own nodes, so that a checkpoint is loaded as it was written."""
    return batch_script(plan, 'export "$@"', exclude)
