"""Every YAML file that is shipped: it composes, says what it is for, keeps to the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.schema import ModelInit, TaskName
from launcher.check.check import check
from launcher.compose.compose import compose
from launcher.compose.files_check import check_file
from launcher.compose.keys import GROUPS
from launcher.compose.layers import find_layers, package_folder
from launcher.facts.data import gather_data
from launcher.facts.facts import DataFile, Facts, ModelFacts
from launcher.facts.gather import BUILTIN_DATA
from launcher.facts.hub import Hub
from launcher.plan.plan import make_plan
from launcher.plan.shapes.known import count_parameters

OPTIONS = {
    "model": "gemma3-1b hf llama3-8b llama3-70b llama3.1-8b llama3.1-70b llama3.2-1b llama3.2-3b llama3.3-70b "
    "mistral-7b qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b qwen3-0.6b qwen3-4b qwen3-8b tiny-bert tiny-t5 tiny",
    "data": "default demo demo_alpaca demo_chat demo_labels demo_mix demo_numbers demo_several_labels demo_sharegpt "
    "demo_summaries demo_text",
    "task": "causal_lm script seq2seq_lm seq_cls",
    "method": "dora freeze full ia3 lora lora_8bit p_tuning peft prefix_tuning prompt_tuning qlora rslora",
    "parallel": "auto zero0 zero1 zero2 zero2_offload zero3 zero3_hpz zero3_offload",
    "optim": "adamw",
    "schedule": "constant cosine linear wsd",
    "train": "default demo",
    "checkpoint": "default",
    "health": "default",
    "tracking": "none wandb",
    "cluster": "devcluster local slurm",
    "sweep": "grid lr_range optuna",
    "experiment": "best_model chat classify classify_causal classify_multi_label demo domain dora freeze_layers gsm8k "
    "instruction lora lora_8bit mix prompt_tuning qlora regression rslora stream summarize",
}

NEEDED = {
    "method=peft": ["method.peft.peft_type=LOHA", "parallel=zero2"],
    "method=lora_8bit": ["parallel=zero2"],
    "model=tiny-bert": ["task=seq_cls"],
    "model=tiny-t5": ["task=seq2seq_lm"],
    "task=seq2seq_lm": ["model=tiny-t5"],
    "task=script": ["train.entrypoint=train.py"],
}
"""What an option does not go without."""

COLUMNS = ("prompt", "response", "question", "answer", "text", "label")

FILES = sorted(package_folder().glob("*/*.yaml"))


def test_every_option_is_known_here() -> None:
    assert {path.parent.name for path in FILES} == set(OPTIONS) == set(GROUPS)
    assert sorted(f"{path.parent.name}={path.stem}" for path in FILES) == sorted(
        f"{group}={option}" for group, options in OPTIONS.items() for option in options.split()
    )
    assert len(FILES) == 91


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_shipped_option_keeps_to_the_schema_composes_and_plans(path: Path) -> None:
    report = check_file(path, path.parent.name, find_layers()[0])
    assert report.problems == []
    config = compose([f"{path.parent.name}={path.stem}", *NEEDED.get(f"{path.parent.name}={path.stem}", ())])
    given = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, **config.model.shape}
    rows = DataFile("data.train_file", "a.jsonl", "/a.jsonl", 9, 9, columns=COLUMNS)
    if not config.data.train_files and config.data.train_file is None:
        config.data.train_file = "a.jsonl"
    if not config.model.model_name_or_path and config.model.init is ModelInit.pretrained:
        config.model.model_name_or_path = "/m"
    bundled = gather_data(config.data, path.parent, BUILTIN_DATA, Hub("", {}, fetch=False))
    facts = Facts(
        cwd="/here",
        run_root="/here/runs",
        python="/usr/bin/python3",
        cpu_count=2,
        model=ModelFacts(folder="/m", config=given, weights_bytes=1, tokenizer_folder="/m"),
        data_files={key: rows if file.error else file for key, file in bundled.items()},
    )
    assert check(config, facts) == []
    if config.task.name is TaskName.script:
        assert make_plan(config, facts).layout.deepspeed == {}
        return
    assert make_plan(config, facts).layout.deepspeed["zero_optimization"]["stage"] == config.parallel.zero_stage


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_shipped_file_says_what_it_is_for(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines() if line.startswith("#") and "@package" not in line]
    assert comments
    assert len(comments[0]) > 20


PARAMETERS = {
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.3-70b": 70_553_706_496,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "mistral-7b": 7_248_023_552,
    "gemma3-1b": 999_885_952,
}
"""Parameters as the model cards give them."""


@pytest.mark.parametrize("model", PARAMETERS)
def test_a_named_model_has_the_parameters_of_its_card(model: str) -> None:
    assert count_parameters(compose([f"model={model}"]).model.shape) == PARAMETERS[model]
