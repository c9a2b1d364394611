"""Configurations, facts and plans that tests start from: a Linux host that never was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conf.record import Plan
from conf.schema import RunConfig
from launcher.compose.compose import compose
from launcher.facts.facts import CodeFacts, DataFile, Facts
from launcher.facts.model import ModelFacts
from launcher.plan.plan import make_plan

TRAIN = DataFile(
    key="data.train_file",
    given="train.jsonl",
    path="/data/train.jsonl",
    size=1000,
    rows=320,
    columns=("prompt", "response"),
    lengths=(100,) * 320,
)
TINY = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}
FACTS = Facts(
    user="ada",
    host="login1",
    cwd="/home/ada/project",
    run_root="/scratch/ada/runs",
    cpu_count=4,
    memory_gib=16.0,
    python="/opt/env/bin/python",
    versions={"muster": "0.1.0", "torch": "2.13.0", "deepspeed": "0.19.8"},
    passed_env={"HTTPS_PROXY": "http://proxy:3128"},
    model=ModelFacts(config=TINY),
    data_files={"data.train_file": TRAIN},
    code=CodeFacts(muster=b"muster", project=b"project", body=b"#!/bin/bash\n", commit="0" * 40),
)


def config_of(*overrides: str) -> RunConfig:
    """A composed configuration of the tiny model with training data."""
    return compose(["model=tiny", "data.train_file=train.jsonl", *overrides])


def plan_of(*overrides: str, **changes: Any) -> Plan:
    """A plan from overrides, and changes of the facts."""
    return make_plan(config_of(*overrides), facts_of(**changes))


def facts_of(**changes: Any) -> Facts:
    return replace(FACTS, **changes)
