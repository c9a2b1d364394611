"""Impossible combinations: each is found, alone, with its key, its numbers and the nearest valid value."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from conf.schema import RunConfig
from launcher.check.check import check
from launcher.check.deepspeed_keys import ZERO_KEYS
from launcher.compose.compose import compose
from launcher.facts.facts import BrokenRow, DataFile, ExistingRun, Facts, ModelFacts, SlurmFacts
from launcher.plan.content import content_of, run_id
from launcher.plan.resolve import resolved
from slurm.parse import Partition

LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
ROWS = DataFile("data.train_file", "train.jsonl", "/here/train.jsonl", 100, 50, columns=("prompt", "response"))
FACTS = Facts(
    cwd="/here",
    cpu_count=4,
    model=ModelFacts(folder="/models/a", config=LLAMA, weights_bytes=10, tokenizer_folder="/models/a"),
    data_files={"data.train_file": ROWS},
)
SLURM = replace(
    FACTS,
    slurm=SlurmFacts(
        partitions=(
            Partition("gpu", True, True, 8, 4, 86400, 64, 500_000, "gpu:8"),
            Partition("long", False, True, 8, None, None, 64, 500_000, "(null)"),
        )
    ),
)
LOCAL_GPUS = replace(FACTS, gpus=("H200", "H200"))

BASE = ("model=hf", "model.model_name_or_path=/models/a", "data.train_file=train.jsonl")
ON_SLURM = (*BASE, "cluster=slurm")
PADDED = (*BASE, "data.packing=none")


@cache
def base(overrides: tuple[str, ...]) -> RunConfig:
    """Composed once for each list."""
    return compose(list(overrides))


def config_of(overrides: tuple[str, ...], **values: Any) -> RunConfig:
    """A configuration with values set by their dotted key (`__` for the dot)."""
    import copy

    config = copy.deepcopy(base(overrides))
    for key, value in values.items():
        *sections, name = key.split("__")
        owner: Any = config
        for section in sections:
            owner = getattr(owner, section)
        setattr(owner, name, type(getattr(owner, name))(value) if _is_enum(getattr(owner, name)) else value)
    return config


def _is_enum(value: Any) -> bool:
    return hasattr(type(value), "__members__")


@pytest.mark.parametrize(
    ("overrides", "facts"),
    [(BASE, FACTS), (ON_SLURM, SLURM), (PADDED, FACTS), (("experiment=demo",), replace(FACTS, data_files={}))],
    ids=["local", "slurm", "padded", "demo"],
)
def test_good_configurations_have_no_problem(overrides: tuple[str, ...], facts: Facts) -> None:
    assert check(config_of(overrides), facts) == []


def data(**changes: Any) -> Facts:
    """The facts with another training file."""
    return replace(FACTS, data_files={"data.train_file": replace(ROWS, **changes)})


def model(**changes: Any) -> Facts:
    """The facts with another model."""
    return replace(FACTS, model=replace(FACTS.model, **changes))


def shape(**changes: Any) -> Facts:
    """The facts with another config.json."""
    return model(config={**LLAMA, **changes})


CASES: dict[str, tuple[tuple[str, ...], Facts, dict[str, Any], str]] = {
    # the batch equation
    "batch": (
        PADDED,
        FACTS,
        {"train__global_batch_size": 1000, "train__per_device_train_batch_size": 4, "cluster__ranks_per_node": 64},
        "train.global_batch_size=1000 is not a multiple of micro 4 × 64 ranks = 256; nearest: 768, 1024",
    ),
    "batch ranks": (PADDED, FACTS, {"cluster__ranks_per_node": 3}, "=16 is not a multiple of 3 ranks; nearest: 15, 18"),
    "batch accumulation": (
        PADDED,
        FACTS,
        {"train__gradient_accumulation_steps": 3, "cluster__ranks_per_node": 2},
        "=16 is not a multiple of accumulation 3 × 2 ranks = 6; nearest: 12, 18",
    ),
    "batch both": (
        BASE,
        FACTS,
        {"train__gradient_accumulation_steps": 4, "train__per_device_train_batch_size": 8},
        "train.global_batch_size=16 is not micro 8 × accumulation 4 × 1 rank = 32; nearest: 32",
    ),
    "batch below ranks": (
        BASE,
        FACTS,
        {"cluster__ranks_per_node": 32},
        "gives some of the 32 ranks no document; nearest: 32",
    ),
    "world size 0": (
        BASE,
        FACTS,
        {"cluster__ranks_per_node": 0},
        "cluster.ranks_per_node=0 has to be at least 1; nearest: 1",
    ),
    "no nodes": (BASE, FACTS, {"cluster__nodes": 0}, "cluster.nodes=0 has to be at least 1; nearest: 1"),
    # stages, offload, precision
    "stage": (
        BASE,
        FACTS,
        {"parallel__zero_stage": 4},
        "parallel.zero_stage=4 has to be at least 0 and at most 3; nearest: 3",
    ),
    "offload_param": (
        BASE,
        FACTS,
        {"parallel__zero_stage": 2, "parallel__offload_param": "cpu"},
        "parallel.offload_param=cpu needs parallel.zero_stage=3, not 2",
    ),
    "offload_optimizer": (
        BASE,
        FACTS,
        {"parallel__zero_stage": 0, "parallel__offload_optimizer": "cpu"},
        "parallel.offload_optimizer=cpu needs parallel.zero_stage of 1, 2 or 3",
    ),
    "hpz stage": (
        BASE,
        FACTS,
        {"parallel__zero_stage": 2, "parallel__hpz_partition_size": 0},
        "needs parallel.zero_stage=3, not 2",
    ),
    "hpz offload": (
        BASE,
        FACTS,
        {"parallel__offload_optimizer": "cpu", "parallel__hpz_partition_size": 0},
        "does not go with offload",
    ),
    "hpz size": (
        BASE,
        FACTS,
        {"parallel__hpz_partition_size": 3, "cluster__ranks_per_node": 8},
        "parallel.hpz_partition_size=3 does not divide the 8 ranks; nearest: 2, 4",
    ),
    "fp16": (BASE, FACTS, {"train__precision": "fp16"}, "train.precision=fp16 needs GPUs"),
    # raw DeepSpeed keys
    "auto": (
        BASE,
        FACTS,
        {"parallel__deepspeed": {"zero_optimization": {"reduce_bucket_size": "auto"}}},
        "reduce_bucket_size=auto",
    ),
    "predivide": (BASE, FACTS, {"parallel__deepspeed": {"gradient_predivide_factor": 2}}, "fails in 2 and 3"),
    "prescale": (
        BASE,
        FACTS,
        {"parallel__deepspeed": {"prescale_gradients": True}},
        "prescale_gradients=true does nothing",
    ),
    "raw batch": (BASE, FACTS, {"parallel__deepspeed": {"train_batch_size": 8}}, "train.global_batch_size says it"),
    "raw stage": (
        BASE,
        FACTS,
        {"parallel__deepspeed": {"zero_optimization": {"stage": 1}}},
        "parallel.zero_stage says it",
    ),
    "raw top": (BASE, FACTS, {"parallel__deepspeed": {"wall_clock_brakdown": True}}, "nearest: wall_clock_breakdown"),
    "raw zero": (
        BASE,
        FACTS,
        {"parallel__deepspeed": {"zero_optimization": {"overlap_com": True}}},
        "nearest: overlap_comm",
    ),
    # numbers
    "steps": (BASE, FACTS, {"train__max_steps": -1}, "train.max_steps=-1 has to be at least 0; nearest: 0"),
    "epochs": (BASE, FACTS, {"train__num_train_epochs": 0.0}, "train.num_train_epochs=0 has to be above 0"),
    "lr": (BASE, FACTS, {"optim__learning_rate": float("nan")}, "optim.learning_rate=nan has to be above 0 and finite"),
    "decay": (BASE, FACTS, {"optim__weight_decay": math.inf}, "weight_decay=inf has to be at least 0 and finite"),
    "endless": (BASE, FACTS, {"train__num_train_epochs": math.inf}, "epochs=inf has to be above 0 and at most 1e"),
    "beta": (BASE, FACTS, {"optim__adam_beta1": 1.0}, "optim.adam_beta1=1 has to be at least 0 and below 1"),
    "save": (BASE, FACTS, {"checkpoint__save_steps": -1}, "checkpoint.save_steps=-1 has to be at least 0; nearest: 0"),
    "eval": (
        BASE,
        FACTS,
        {"train__eval_steps": 0},
        "train.eval_steps=0 has to be at least 1; nearest: train.eval_strategy=no",
    ),
    "warm-up longer than the epochs": (
        BASE,
        FACTS,
        {"train__global_batch_size": 10, "schedule__warmup_steps": 6},
        "schedule.warmup_steps=6 is too long: warmup_steps 6 in 5 steps: 1 epoch of 50 rows, 10 a step; nearest: 0.1",
    ),
    "warm-up": (
        BASE,
        FACTS,
        {"schedule__warmup_steps": 2.5},
        "neither a share below 1 nor a whole number; nearest: 2, 3",
    ),
    "warm-up long": (
        BASE,
        FACTS,
        {"schedule__warmup_steps": 200.0, "train__max_steps": 100},
        "train.max_steps=100 is less than warmup_steps 200; nearest: 200",
    ),
    # names and places
    "name": (BASE, FACTS, {"name": "a$(x);`y`"}, "may have the letters a to z"),
    "name percent": (BASE, FACTS, {"name": "a%j"}, "may have the letters a to z"),
    "name path": (BASE, FACTS, {"name": "../a"}, "; nearest: a"),
    "name unicode": (BASE, FACTS, {"name": "naïve"}, "; nearest: na-ve"),
    "name newline": (BASE, FACTS, {"name": "a\n"}, "may have the letters a to z"),
    "name long": (BASE, FACTS, {"name": "a" * 300}, "has 300 characters; at most 100 are possible"),
    "run_root": (
        BASE,
        replace(FACTS, run_root_error="/x belongs to another user"),
        {},
        "run_root=./runs cannot be used: /x belongs",
    ),
    "run_root control": (BASE, FACTS, {"run_root": "a\nb"}, "without control characters"),
    # models
    "no model": (
        ("model=hf", "data.train_file=train.jsonl"),
        model(error="is empty"),
        {},
        "a folder or a hub name is needed",
    ),
    "model error": (
        BASE,
        model(error="/models/a has no config.json"),
        {},
        "cannot be used: /models/a has no config.json",
    ),
    "no weights": (BASE, model(weights_bytes=None), {}, "has no *.safetensors"),
    "encoder-decoder": (
        BASE,
        shape(model_type="t5"),
        {},
        "task.name=causal_lm trains models that predict the next token; t5 has an encoder and a decoder",
    ),
    "quantized": (BASE, shape(quantization_config={"bits": 4}), {}, "quantized weights cannot be trained"),
    "no type": (BASE, shape(model_type=None), {"data__packing": "none"}, "model.shape.model_type is missing"),
    "heads": (
        BASE,
        shape(hidden_size=130),
        {},
        "model.shape.hidden_size=130 is not a multiple of num_attention_heads=4; nearest: 128, 132",
    ),
    "pairs": (
        BASE,
        shape(num_key_value_heads=3),
        {},
        "num_key_value_heads=3 does not divide num_attention_heads=4; nearest: 2, 4",
    ),
    "length": (BASE, FACTS, {"data__max_length": 4096}, "data.max_length=4096 is more than the 2048 positions"),
    "remote code": (
        BASE,
        model(folder="/cache/x", commit="a" * 40),
        {"model__trust_remote_code": True, "model__revision": "main"},
        f"has to be a full commit (40 hex digits), not a name that moves; nearest: model.revision={'a' * 40}",
    ),
    "auto_map": (
        BASE,
        shape(model_type="own", auto_map={"AutoModel": "x.Y"}),
        {},
        "nearest: model.trust_remote_code=true",
    ),
    "kwargs": (
        BASE,
        FACTS,
        {"model__kwargs": {"device_map": "auto"}},
        "model.kwargs.device_map=auto is given by Muster",
    ),
    "tokenizer": (
        BASE,
        model(tokenizer_folder="", tokenizer_error="/models/a has no tokenizer files"),
        {},
        "has no tokenizer files",
    ),
    "new vocabulary": (BASE, FACTS, {"model__tokenizer_name_or_path": "train"}, "which pretrained weights do not know"),
    # health
    "impatient ranks": (
        BASE,
        FACTS,
        {"health__collective_timeout_s": 600.0, "health__limits_s__load": 7200.0},
        "collective_timeout_s=600 is less than health.limits_s.load=7200, for which a rank may wait; nearest: 7200",
    ),
    "nothing to go back to": (
        BASE,
        FACTS,
        {"health__non_finite": "roll_back", "checkpoint__save_steps": 0},
        "health.non_finite=roll_back goes back to a checkpoint, and checkpoint.save_steps=0 has none before the end",
    ),
    "never back": (
        BASE,
        FACTS,
        {"health__spike": "roll_back", "health__max_roll_backs": 0},
        "health.spike=roll_back never goes back with health.max_roll_backs=0; nearest: health.max_roll_backs=2",
    ),
    # data
    "no data": (BASE, replace(FACTS, data_files={}), {"data__train_file": None}, "none is given"),
    "no template file": (BASE, FACTS, {"data__chat_template": "chat.jinja"}, "neither a Jinja template nor a file"),
    "two data": (BASE, FACTS, {"data__dataset_name": "gsm8k"}, "train_file and dataset_name are given"),
    "missing": (
        BASE,
        data(error="No such file or directory"),
        {},
        "data.train_file=train.jsonl cannot be read: No such file",
    ),
    "suffix": (BASE, data(error="has the suffix '.txt'"), {}, "nearest: .jsonl, .json, .csv, .parquet"),
    "broken": (
        BASE,
        data(broken=BrokenRow(7, "no end of object"), broken_rows=2),
        {},
        "in line 7: no end of object; 2 broken rows",
    ),
    "no rows": (BASE, data(rows=0, columns=()), {}, "has no rows"),
    "column": (
        BASE,
        data(columns=("question", "answer")),
        {"data__columns": {"prompt": "qestion", "response": "answer"}},
        "data.columns.prompt=qestion is no column of train.jsonl; there are question, answer; nearest: question",
    ),
    "role": (BASE, FACTS, {"data__columns": {"promt": "prompt"}}, "data.columns.promt=prompt is no role"),
    "format": (BASE, data(columns=("question", "answer")), {}, "make no known format (messages: messages; alpaca:"),
    "template": (BASE, data(columns=("messages",)), {}, "which need a chat template"),
    "prompt template": (BASE, FACTS, {"data__prompt_template": "Q:"}, "has no {prompt}"),
    "stream without end": (BASE, FACTS, {"data__streaming": True}, "needs train.max_steps"),
    **{
        f"stream {key}": (BASE, FACTS, {"data__streaming": True, "train__max_steps": 5, **values}, words)
        for key, values, words in (
            (
                "epochs",
                {"train__eval_strategy": "epoch"},
                "train.eval_strategy=epoch needs to know where an epoch ends",
            ),
            ("dense", {"data__packing": "dense"}, "data.packing=dense lays out whole epochs"),
            ("held out", {"data__validation_size": 5.0}, "data.validation_size=5 holds rows out of data that is known"),
            ("test", {"data__test_size": 0.1}, "data.test_size=0.1 holds rows out of data that is known"),
            ("near", {"data__clean__deduplicate": "exact"}, "data.clean.deduplicate=exact compares all rows"),
            (
                "leaks",
                {"data__clean__drop_leaks": True, "data__validation_file": "v"},
                "data.clean.drop_leaks=true compares all rows",
            ),
        )
    },
    "split": (
        BASE,
        FACTS,
        {"data__on_long": "split"},
        "data.on_long=split is for plain text; rows in the format prompt",
    ),
    "preferences": (
        BASE,
        data(columns=("prompt", "chosen", "rejected")),
        {},
        "pairs of a better and a worse answer (for DPO and its like)",
    ),
    "held out": (BASE, FACTS, {"data__validation_size": 50.0}, "leaves none of the 50 rows to train on"),
    "held out and file": (
        BASE,
        FACTS,
        {"data__validation_size": 0.1, "data__validation_file": "v.jsonl"},
        "give one of them",
    ),
    "samples": (BASE, FACTS, {"train__eval_samples": 4}, "answers prompts of the validation data, and there is none"),
    # answers
    "generation length": (
        BASE,
        FACTS,
        {"task__generation": {"max_length": 20}},
        "task.generation.max_length=20 counts the prompt of some models and not of others",
    ),
    "sampling with beams": (
        BASE,
        FACTS,
        {"task__generation": {"do_sample": True, "num_beams": 2}},
        "task.generation.do_sample=true draws tokens, which is done along one beam",
    ),
    # this machine
    "local nodes": (BASE, FACTS, {"cluster__nodes": 2}, "several nodes need cluster=slurm; nearest: 1"),
    "local account": (BASE, FACTS, {"cluster__account": "abc"}, "cluster.account=abc means something to Slurm alone"),
    "local sbatch": (BASE, FACTS, {"cluster__sbatch": {"switches": 1}}, "means something to Slurm alone"),
    "local gpus": (
        BASE,
        LOCAL_GPUS,
        {"cluster__gpus_per_node": 4},
        "is more than the 2 GPUs of this machine; nearest: 2",
    ),
    "ranks over gpus": (BASE, LOCAL_GPUS, {"cluster__ranks_per_node": 4}, "is more than the 2 GPUs of a node"),
    # Slurm
    "time": (ON_SLURM, SLURM, {"cluster__time": "soon"}, "cluster.time=soon is not a time of Slurm's"),
    "time over": (
        ON_SLURM,
        SLURM,
        {"cluster__time": "2-00:00:00"},
        "more than the time limit of partition gpu; nearest: '1-00:00:00'",
    ),
    "lead": (
        ON_SLURM,
        SLURM,
        {"cluster__time": "00:05:00"},
        "before a time limit of 300 s leaves no time to train; nearest: 30",
    ),
    "partition": (ON_SLURM, SLURM, {"cluster__partition": "gpus"}, "there are gpu, long; nearest: gpu"),
    "nodes over": (
        ON_SLURM,
        SLURM,
        {"cluster__nodes": 6},
        "is more than the 4 nodes a job may have in partition gpu; nearest: 4",
    ),
    "cores over": (
        ON_SLURM,
        SLURM,
        {"cluster__cpus_per_task": 65},
        "is more than the 64 cores of a node in partition gpu; nearest: 64",
    ),
    "mem": (ON_SLURM, SLURM, {"cluster__mem": "lots"}, "cluster.mem=lots has to be a whole number"),
    "half a gibibyte": (ON_SLURM, SLURM, {"cluster__mem": "1.5G"}, "cluster.mem=1.5G has to be a whole number"),
    "bytes": (ON_SLURM, SLURM, {"cluster__mem": "5B"}, "cluster.mem=5B has to be a whole number"),
    "gres": (
        ON_SLURM,
        SLURM,
        {"cluster__gres": "gpu:h100:8", "cluster__gpus_per_node": 4},
        "does not agree with cluster.gres=gpu:h100:8, which has 8; nearest: 8",
    ),
    "minus one": (ON_SLURM, SLURM, {"cluster__gpus_per_node": -1}, "a cluster needs the number"),
    "sbatch owned": (
        ON_SLURM,
        SLURM,
        {"cluster__sbatch": {"time": "1:00"}},
        "has a key of its own; nearest: cluster.time",
    ),
    "sbatch newline": (ON_SLURM, SLURM, {"cluster__sbatch": {"comment": "a\nb"}}, "control character"),
    "account newline": (ON_SLURM, SLURM, {"cluster__account": "a\n#SBATCH --uid=0"}, "control character"),
    "python": (ON_SLURM, SLURM, {"cluster__python": "venv/bin/python"}, "nearest: /here/venv/bin/python"),
    # environment, network
    "env newline": (BASE, FACTS, {"cluster__env": {"A": "a\nb"}}, "has several lines"),
    "env name": (BASE, FACTS, {"cluster__env": {"A B": "a"}}, "is no name of a variable"),
    "env owned": (BASE, FACTS, {"cluster__env": {"MASTER_PORT": "1"}}, "is set by Muster or the system"),
    "pass_env": (BASE, FACTS, {"cluster__pass_env": ["A;B"]}, "is no name of a variable"),
    "scratch": (BASE, FACTS, {"cluster__scratch": "tmp"}, "has to be an absolute path"),
    "modules": (BASE, FACTS, {"cluster__modules": ["a\nb"]}, "has control characters"),
    "first adapter": (
        BASE,
        FACTS,
        {"cluster__network__ib_hcas": ["^mlx5 0"]},
        "is no whole name of an InfiniBand adapter",
    ),
    "all adapters of a kind": (BASE, FACTS, {"cluster__network__ib_hcas": ["mlx5"]}, "nearest: mlx5_0"),
    "later adapter": (
        BASE,
        FACTS,
        {"cluster__network__ib_hcas": ["mlx5_0", "=mlx5_1"]},
        "which the first adapter alone can say; nearest: mlx5_1",
    ),
    "interface": (BASE, FACTS, {"cluster__network__interface": "eth0,=eth1"}, "is no name of a network interface"),
    # tracking
    "project": (BASE, FACTS, {"tracking__project": "a/b"}, "tracking.project=a/b has to be 1 to 128 characters"),
    "tag": (BASE, FACTS, {"tracking__tags": ["x" * 65]}, "not 1 to 64 characters long"),
    # secrets
    "secret name": (
        BASE,
        FACTS,
        {"cluster__env": {"WANDB_API_KEY": "canary"}},
        "cluster.env.WANDB_API_KEY=(hidden) looks like a secret",
    ),
    "secret token": (
        BASE,
        FACTS,
        {"model__kwargs": {"token": "canary"}},
        "model.kwargs.token=(hidden) looks like a secret",
    ),
    "secret hf": (
        BASE,
        FACTS,
        {"cluster__env": {"A": "hf_" + "a1" * 17}},
        "cluster.env.A=(hidden) looks like a secret",
    ),
    "secret wandb": (
        BASE,
        FACTS,
        {"cluster__env": {"A": "0123456789" * 4}},
        "cluster.env.A=(hidden) looks like a secret",
    ),
    "secret bearer": (
        BASE,
        FACTS,
        {"cluster__setup": ["curl -H 'Authorization: Bearer canary.canary.canary' https://host/x"]},
        "cluster.setup=(hidden) looks like",
    ),
    "secret setup": (
        BASE,
        FACTS,
        {"cluster__setup": ["git clone https://me:canary@host/x"]},
        "cluster.setup=(hidden) looks like",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "-"))
def test_an_impossible_combination_is_found(case: str) -> None:
    overrides, facts, values, expected = CASES[case]
    found = [str(problem) for problem in check(config_of(overrides, **values), facts)]
    assert len(found) == 1, found
    assert expected in found[0]
    assert "canary" not in found[0]


def test_all_problems_come_at_once() -> None:
    facts = replace(FACTS, run_root_error="no", data_files={"data.train_file": replace(ROWS, error="is empty")})
    values = {
        "name": "a b",
        "train__max_steps": -1,
        "cluster__nodes": 3,
        "parallel__offload_param": "cpu",
        "parallel__zero_stage": 1,
    }
    assert len(check(config_of(BASE, **values), facts)) == 6


def test_a_container_needs_runtime_and_image() -> None:
    config = config_of(ON_SLURM)
    config.cluster.container.image = "a.sqsh"
    config.cluster.container.mounts = ["/data"]
    config.cluster.network.interface = "ib0; rm"
    found = [problem.key for problem in check(config, SLURM)]
    assert found == ["cluster.container.image", "cluster.container.mounts", "cluster.network.interface"]


def test_a_name_is_taken_by_other_content_and_kept_by_the_same() -> None:
    config, other = config_of(BASE, name="mine"), config_of(BASE, name="mine", train__seed=1)
    frozen = resolved(other, FACTS)
    taken = ExistingRun(run_id(frozen), "mine", "/runs/mine-1", content_of(frozen))
    found = [str(problem) for problem in check(config, replace(FACTS, existing_runs=(taken,)))]
    assert len(found) == 1
    assert "name=mine is taken by a run with other content, /runs/mine-1 (train.seed: 1 → 42)" in found[0]
    assert found[0].endswith("choose another name; nearest: mine-2")
    assert check(other, replace(FACTS, existing_runs=(taken,))) == []
    resumed = replace(taken, run_id="mine-0", content=content_of(resolved(config, FACTS)))
    found = [str(problem) for problem in check(config, replace(FACTS, existing_runs=(resumed,)))]
    assert len(found) == 1
    assert "is taken by a run that has become this one, /runs/mine-1; muster resume mine-0 goes on" in found[0]


def test_packing_takes_any_batch_and_unpackable_models_do_not() -> None:
    config = config_of(BASE, cluster__ranks_per_node=3, train__per_device_train_batch_size=4)
    assert check(config, FACTS) == []
    assert len(check(config, shape(model_type="falcon"))) == 1


def test_a_hub_name_that_was_not_looked_up_can_be_planned() -> None:
    assert check(config_of(BASE), model(folder="", weights_bytes=None, tokenizer_folder="", unresolved=True)) == []


def test_code_beside_a_model_that_transformers_knows_needs_no_word() -> None:
    """Phi-3 and DeepSeek are published so; without the word transformers takes its own class."""
    assert check(config_of(BASE), shape(auto_map={"AutoModelForCausalLM": "modeling_own.Own"})) == []


def test_zero_keys_are_those_of_deepspeed() -> None:
    config = pytest.importorskip("deepspeed.runtime.zero.config")
    fields = config.DeepSpeedZeroConfig.model_fields
    mics = {"mics_shard_size", "mics_hierarchical_params_gather"}
    assert {field.alias or name for name, field in fields.items()} | mics == ZERO_KEYS


@pytest.mark.parametrize("warmup", [0.5, 5.0], ids=["a share", "all steps"])
def test_a_warm_up_within_the_expected_steps_is_none_too_long(warmup: float) -> None:
    values = {"train__global_batch_size": 10, "schedule__warmup_steps": warmup}
    assert check(config_of(BASE, **values), FACTS) == []


def test_a_warm_up_is_not_refused_for_steps_that_are_estimated() -> None:
    config = config_of(BASE, train__global_batch_size=10, schedule__warmup_steps=6)
    guessed = replace(FACTS, data_files={"data.train_file": replace(ROWS, rows_estimated=True)})
    assert check(config, guessed) == []


NAMED = ("model.model_name_or_path=org/mine", "data.train_file=train.jsonl")


@pytest.mark.parametrize("words", [(), ("model=tiny-bert", "task=seq_cls"), ("model.tokenizer_name_or_path=org/mine",)])
def test_a_named_model_is_not_replaced_by_a_new_one_in_silence(words: tuple[str, ...]) -> None:
    config = config_of((*words, *NAMED))
    found = [problem for problem in check(config, FACTS) if problem.key == "model.model_name_or_path"]
    assert len(found) == 1
    assert "model=tiny and its like draw a new" in found[0].rule
    assert found[0].nearest.startswith("model=hf")


@pytest.mark.parametrize(
    "words",
    [
        ("model=hf",),
        ("model=hf", "model.init=random"),
        ("model=llama3.1-8b", "model.init=random"),
        ("model.tokenizer_name_or_path=null",),
    ],
    ids=["pretrained", "drawn in its shape", "drawn in a named shape", "its tokenizer alone"],
)
def test_a_named_model_of_which_something_is_taken_is_right(words: tuple[str, ...]) -> None:
    assert check(config_of((*words, *NAMED)), FACTS) == []


@pytest.mark.parametrize(("most", "refused"), [(0, "cores of a node"), (128, ""), (100, "largest node"), (None, "")])
def test_cores_are_refused_above_those_of_the_largest_node_alone(most: int | None, refused: str) -> None:
    partition = Partition("gpu", True, True, 8, 4, 86400, 40, 190_000, "gpu:h100:4,gpu:v100:4", most)
    facts = replace(FACTS, slurm=SlurmFacts(partitions=(partition,)))
    config = config_of(ON_SLURM, cluster__gres="gpu:h100:4", cluster__constraint="h100", cluster__cpus_per_task=112)
    found = [problem.rule for problem in check(config, facts) if problem.key == "cluster.cpus_per_task"]
    assert len(found) == bool(refused)
    assert all(refused in rule for rule in found)
