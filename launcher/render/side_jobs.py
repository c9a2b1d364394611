"""The other jobs of a run on Slurm: the data step before it on one node without GPUs, the export after it."""

from __future__ import annotations

from dataclasses import replace

from conf.record import Plan
from conf.schema import ClusterKind, ExportWhen, PrepareWhere
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


def exports_after(plan: Plan) -> bool:
    """Whether a job of its own exports the model after the run."""
    wanted = plan.config.checkpoint.export in (ExportWhen.auto, ExportWhen.job)
    trains = plan.config.train.max_steps != 0
    return plan.config.cluster.kind is ClusterKind.slurm and wanted and trains and not plan.export_at_end


def prepare_script(plan: Plan) -> str:
    """`job/prepare.sbatch`."""
    cluster = replace(plan.config.cluster, nodes=1, gpus_per_node=0, gres=None, nodelist=None, requeue=False)
    return batch_script(replace(plan, config=replace(plan.config, cluster=cluster)), "prepare")


def export_script(plan: Plan, exclude: str | None) -> str:
    """`job/export.sbatch`: the ranks' own nodes, so that a checkpoint is loaded as it was written."""
    return batch_script(plan, 'export "$@"', exclude)
