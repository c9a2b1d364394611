"""The files of a run folder that `slurm/body.sh` reads, and the script that starts it. Pure text.

Values from people are data: a line of a file or a quoted word, never a piece of shell. Only `cluster.setup` is code.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from conf.layout import RunFolder
from conf.node_ledger import is_named
from conf.record import Device, Plan
from conf.schema import (
    Access,
    ClusterConfig,
    ClusterKind,
    ContainerRuntime,
    Continuation,
    ExportWhen,
    NetworkConfig,
    Tracker,
)
from launcher.facts.facts import Facts
from launcher.facts.machine import PASSED
from launcher.plan.nodes import budget_left
from launcher.plan.topology import cores_of_node, partition_of
from slurm import options
from slurm.step import checked_lines, launch_prefix, srun_arguments

EXTENSION_PACKAGES = ("torch", "deepspeed")
"""Compiled extensions are shared by jobs with the same versions of these."""

BASE_ENVIRONMENT: Mapping[str, str] = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONNOUSERSITE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",
}
OFFLINE: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""Whatever nodes need of the hub was fetched at submit, but for a data set that is read while training."""


OF_THIS_MACHINE = ("CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH", "NVIDIA_*")
"""Where a machine keeps its GPU driver and compiler. Nodes of a cluster have their own."""


def allow_lines(cluster: ClusterConfig) -> str:
    """`job/allow`: names of variables that pass the scrub, beside those that body.sh always lets through."""
    own = OF_THIS_MACHINE if cluster.kind is ClusterKind.local else ()
    return _lines(sorted({*PASSED, *own, *cluster.pass_env}))


def environment(plan: Plan, facts: Facts) -> dict[str, str]:
    """Variables of the ranks; the later ones win: ours, the network's, what passed from the shell, the site's own."""
    cluster = plan.config.cluster
    values = {**BASE_ENVIRONMENT, "OMP_NUM_THREADS": str(plan.topology.threads_per_rank)}
    data = plan.config.data
    if plan.script is not None:
        values |= script_environment(plan, facts)
    elif not (data.streaming and data.dataset_name):
        values |= OFFLINE
    if plan.topology.device is Device.gpu:
        values["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    else:
        values["DS_ACCELERATOR"] = "cpu"
    return {**values, **network_environment(cluster.network), **facts.passed_env, **cluster.env}


def network_environment(network: NetworkConfig) -> dict[str, str]:
    """Variables of NCCL, which takes names for prefixes unless `=` is before them, and gloo, which takes plain ones."""
    values = {}
    if network.interface:
        values["NCCL_SOCKET_IFNAME"] = _exactly(network.interface)
        if not network.interface.startswith("^"):
            values["GLOO_SOCKET_IFNAME"] = network.interface.removeprefix("=")
    if network.ib_hcas:
        values["NCCL_IB_HCA"] = _exactly(",".join(network.ib_hcas))
    return values


def script_environment(plan: Plan, facts: Facts) -> dict[str, str]:
    """What a person's own program is told: where it was sent from, and how W&B keeps all attempts in one run."""
    tracking = plan.config.tracking
    values = {"MUSTER_SUBMIT_DIR": facts.cwd}
    if tracking.name is Tracker.none:
        return {**values, "WANDB_MODE": "disabled"}
    given = {
        "WANDB_RUN_ID": plan.wandb_id,
        "WANDB_RESUME": "allow",
        "WANDB_MODE": tracking.mode.value,
        "WANDB_DIR": plan.run_dir,
        "WANDB_PROJECT": tracking.project,
        "WANDB_ENTITY": tracking.entity,
        "WANDB_NAME": tracking.run_name or plan.run_id,
        "WANDB_RUN_GROUP": tracking.group,
        "WANDB_JOB_TYPE": tracking.job_type,
        "WANDB_TAGS": ",".join(tracking.tags),
    }
    return {**values, **{name: value for name, value in given.items() if value}}


def environment_lines(plan: Plan, facts: Facts) -> str:
    """`job/env`.

    Raises:
        ValueError: a value has several lines.
    """
    return _lines(f"{name}={value}" for name, value in sorted(environment(plan, facts).items()))


def setup_script(cluster: ClusterConfig) -> str:
    """`job/setup.sh`: sourced in each node's step, before Python."""
    lines = [f"module load {shlex.quote(name)} || return" for name in cluster.modules]
    return "".join(f"{line}\n" for line in (*lines, *cluster.setup))


def mounts(plan: Plan) -> list[str]:
    """What a container sees: run root, data, model, caches, scratch, the ledger of nodes; the site's own mounts."""
    config = plan.config
    folders = {config.run_root, config.cluster.scratch}
    data = config.data
    files = (data.train_file, *data.train_files.values(), data.validation_file, data.test_file)
    folders |= {str(PurePosixPath(path).parent) for path in files if path}
    ledger = config.cluster.node_ledger or ""
    if config.cluster.kind is ClusterKind.slurm and is_named(ledger):
        folders.add(ledger)
    places = (data.cache_dir, config.model.model_name_or_path, config.model.tokenizer_name_or_path)
    folders |= {_hub_root(path) for path in places if path and path.startswith("/")}
    own = sorted(folder for folder in folders if not any(_is_inside(folder, other) for other in folders))
    return [*(f"{folder}:{folder}" for folder in own), *config.cluster.container.mounts]


def python_lines(plan: Plan) -> str:
    """`job/python`: the argument vector of Python on a node."""
    cluster = plan.config.cluster
    container = cluster.container
    prefix: list[str] = []
    if container.runtime is ContainerRuntime.apptainer:
        gpus = plan.topology.device is Device.gpu
        prefix = launch_prefix(image=container.image, mounts=mounts(plan), gpus=gpus)
    return _lines([*prefix, cluster.python or "python3"])


def srun_lines(plan: Plan, facts: Facts) -> str:
    """`job/srun`: arguments of srun for the step of the ranks. Our variables win over those of a pyxis image."""
    cluster = plan.config.cluster
    container = cluster.container
    pyxis = container.runtime is ContainerRuntime.pyxis
    return _lines(
        srun_arguments(
            nodes=cluster.nodes,
            cpus_per_task=cluster.cpus_per_task or _exclusive_cores(cluster, facts),
            mem=cluster.mem,
            gpus_per_node=0 if cluster.gres else cluster.gpus_per_node,
            gres=cluster.gres,
            image=container.image if pyxis else "",
            mounts=mounts(plan) if pyxis else (),
            container_env=sorted({*environment(plan, facts), *container.env}) if pyxis else (),
        )
    )


def settings_lines(plan: Plan, facts: Facts) -> str:
    """`job/settings`: what body.sh itself wants to know."""
    cluster = plan.config.cluster
    versions = [f"{name}{facts.versions[name]}" for name in EXTENSION_PACKAGES if name in facts.versions]
    settings = {
        "nodes": str(cluster.nodes),
        "continuation": plan.continuation.value,
        "max_requeues": str(cluster.max_requeues),
        **({"export": "after"} if exports_last(plan) else {}),
        "host_suffix": cluster.network.host_suffix,
        "scratch": cluster.scratch,
        "umask": "027" if plan.config.access is Access.group else "077",
        "extensions": "-".join(versions) or "default",
        "leave_out": str(budget_left(plan.config, facts)),
    }
    return _lines(f"{name}={value}" for name, value in settings.items())


def batch_script(plan: Plan, words: str = "", exclude: str | None = None) -> str:
    """`job.sbatch`; with `words`, a job of the run that does something else than train.

    `exclude` are the nodes to leave out, `cluster.exclude` where none are given.

    Raises:
        slurm.options.OptionError: some options cannot be written; all are named.
    """
    cluster = plan.config.cluster
    resources: dict[str, options.Value] = {
        "account": cluster.account,
        "partition": cluster.partition,
        "qos": cluster.qos,
        "time": cluster.time,
        "cpus-per-task": cluster.cpus_per_task,
        "mem": cluster.mem,
        "gres": cluster.gres,
        "gpus-per-node": cluster.gpus_per_node if cluster.gpus_per_node > 0 and not cluster.gres else None,
        "constraint": cluster.constraint,
        "nodelist": cluster.nodelist,
        "exclude": exclude or cluster.exclude,
        "reservation": cluster.reservation,
        "exclusive": cluster.exclusive or None,
    }
    chosen = options.batch_options(
        job_name=plan.run_id,
        output=f"{options.literal_path(plan.run_dir)}/{RunFolder(Path(plan.run_dir)).slurm_output.name}",
        nodes=cluster.nodes,
        chdir=plan.run_dir,
        signal_lead_s=cluster.signal_lead_s,
        requeue=plan.continuation is Continuation.requeue,
        resources=resources,
        extra=cluster.sbatch,
    )
    return _lines(["#!/bin/bash", *options.render(chosen), "", f"{_start(plan, 'batch')} {words}".rstrip()])


def local_script(plan: Plan) -> str:
    """`job.sh`."""
    return _lines(["#!/bin/bash", _start(plan, "local")])


def exports_after(plan: Plan) -> bool:
    """Whether a job of its own exports the model after the run."""
    wanted = plan.config.checkpoint.export in (ExportWhen.auto, ExportWhen.job)
    trains = plan.config.train.max_steps != 0
    own = plan.script is None and not plan.export_at_end
    return plan.config.cluster.kind is ClusterKind.slurm and wanted and trains and own


def exports_last(plan: Plan) -> bool:
    """Whether the last job of the run sends that job: in a chain nobody knows before which one it will be."""
    return exports_after(plan) and plan.continuation is Continuation.chain


def _exclusive_cores(cluster: ClusterConfig, facts: Facts) -> int | None:
    """Cores of exclusive nodes, which the step has to ask for; None leaves it to the site's default."""
    return cores_of_node(cluster, facts)[0] if cluster.exclusive and partition_of(cluster, facts) else None


def _start(plan: Plan, mode: str) -> str:
    return f"exec bash {shlex.quote(f'{plan.run_dir}/job/body.sh')} {mode} {shlex.quote(plan.run_dir)}"


def _hub_root(path: str) -> str:
    """The folder to mount for a model: of a hub's snapshot the whole repository, since its files are links into it."""
    parts = PurePosixPath(path).parts
    if "snapshots" in parts:
        return str(PurePosixPath(*parts[: parts.index("snapshots")]))
    return path


def _exactly(names: str) -> str:
    return names if names.startswith(("^", "=")) else f"={names}"


def _is_inside(folder: str, other: str) -> bool:
    return folder != other and PurePosixPath(folder).is_relative_to(other)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in checked_lines(list(lines)))
