"""A configuration with every name of the outside made certain: absolute paths, the hub's commit, numbers of GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from conf.schema import ClusterConfig, DataConfig, ModelConfig, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.content import run_name
from launcher.plan.topology import gpus_per_node


def resolved(config: RunConfig, facts: Facts) -> RunConfig:
    """`config` as it is frozen into the plan. The run's content and id are computed from this one."""
    return replace(
        config,
        name=run_name(config),
        run_root=facts.run_root or config.run_root,
        model=_model(config.model, facts),
        data=_data(config.data, facts),
        cluster=_cluster(config.cluster, facts),
    )


def _model(model: ModelConfig, facts: Facts) -> ModelConfig:
    """The nodes are offline, so a hub name becomes the folder of its snapshot, whose commit stays as the revision."""
    tokenizer = model.tokenizer_name_or_path
    if tokenizer and facts.model.tokenizer_folder:
        tokenizer = facts.model.tokenizer_folder
    return replace(
        model,
        model_name_or_path=facts.model.folder or model.model_name_or_path,
        revision=facts.model.commit or model.revision,
        tokenizer_name_or_path=tokenizer,
    )


def _data(data: DataConfig, facts: Facts) -> DataConfig:
    def path_of(name: str, given: str | None) -> str | None:
        file = facts.data_files.get(f"data.{name}")
        return file.path if file else given

    return replace(
        data,
        train_file=path_of("train_file", data.train_file),
        train_files={name: str(path_of(f"train_files.{name}", given)) for name, given in data.train_files.items()},
        validation_file=path_of("validation_file", data.validation_file),
        test_file=path_of("test_file", data.test_file),
        chat_template=facts.chat_template or data.chat_template,
        cache_dir=_absolute(data.cache_dir, facts.cwd) if data.cache_dir else None,
    )


def _cluster(cluster: ClusterConfig, facts: Facts) -> ClusterConfig:
    gpus = gpus_per_node(cluster, facts) if cluster.gpus_per_node < 0 else cluster.gpus_per_node
    python = facts.python or cluster.python
    if python and "/" in python:
        python = _absolute(python, facts.cwd)
    slurm_conf = (facts.slurm.slurm_conf if facts.slurm else None) or cluster.slurm_conf
    ledger = facts.nodes.ledger or cluster.node_ledger
    return replace(
        cluster,
        gpus_per_node=gpus,
        python=python,
        slurm_conf=slurm_conf,
        node_ledger=ledger,
        measurements=facts.measurements or cluster.measurements,
    )


def _absolute(given: str, cwd: str) -> str:
    return str(PurePosixPath(cwd, given))
