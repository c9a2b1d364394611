"""Tasks that a model cannot learn, keys that mean nothing for the task, keys that libraries do not know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from launcher.check.check import check
from launcher.check.libraries import peft_methods, tables
from launcher.check.model import longest_text
from launcher.compose.compose import compose
from launcher.facts.facts import DataFile, Facts, ModelFacts
from tests.conftest import REPOSITORY

ROWS = DataFile("data.train_file", "a.jsonl", "/a.jsonl", 9, 99, columns=("text", "label", "prompt", "response"))
SHAPE = {"hidden_size": 64, "num_attention_heads": 4}
BASE = ("model=hf", "model.model_name_or_path=/m", "data.train_file=a.jsonl", "data.validation_size=0.1")
LABELS, PAIRS, LORA, QLORA = "task=seq_cls", "task=seq2seq_lm", "method=lora", "method=qlora"

CASES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "t5 next token": ("t5", (), "task.name=causal_lm .* t5 has an encoder and a decoder; nearest: task=seq2seq_lm"),
    "bert next token": ("bert", (), "task.name=causal_lm .* bert reads a text from both sides; nearest: task=seq_cls"),
    "llama pairs": ("llama", (PAIRS,), "task.name=seq2seq_lm .* llama has a decoder alone; nearest: task=causal_lm"),
    "bert pairs": ("bert", (PAIRS,), "task.name=seq2seq_lm .* bert has an encoder alone; nearest: task=seq_cls"),
    "m2m labels": ("m2m_100", (LABELS,), "transformers has none for m2m_100; nearest: task=seq2seq_lm"),
    "bart labels": (
        "bart",
        (LABELS,),
        "task.name=seq_cls .* bart has an encoder and a decoder; nearest: task=seq2seq_lm",
    ),
    "t5 labels": ("t5", (LABELS,), "task.name=seq_cls .* t5 has an encoder and a decoder; nearest: task=seq2seq_lm"),
    "labels": (
        "llama",
        ("task.labels=[a,b]",),
        "task.labels=a, b means nothing .* it has no labels; nearest: task=seq_cls",
    ),
    "weights": ("llama", ("task.class_weights.a=2",), "task.class_weights=a=2.0 means nothing"),
    "balance": ("t5", (PAIRS, "task.balance_classes=true"), "task.balance_classes=true means nothing"),
    "kind": ("llama", ("task.problem_type=regression",), "task.problem_type=regression means nothing"),
    "generation": ("bert", (LABELS, "task.generation.num_beams=2"), "task.generation=num_beams=2 means nothing"),
    "answers": ("bert", (LABELS, "task.predict_with_generate=true"), "predict_with_generate=true means nothing"),
    "samples": ("bert", (LABELS, "train.eval_samples=3"), "train.eval_samples=3 means nothing"),
    "prompt": ("bert", (LABELS, "data.prompt_template='x{prompt}'"), "data.prompt_template=x.prompt. means nothing"),
    "twice": ("bert", (LABELS, "task.labels=[a,b,a]"), "task.labels=a, b, a has a more than once"),
    "alone": ("bert", (LABELS, "task.labels=[a]"), "task.labels=a is one label"),
    "weighted numbers": (
        "bert",
        (LABELS, "task.problem_type=regression", "task.balance_classes=true"),
        "task.balance_classes=true weights labels, and task.problem_type=regression has numbers",
    ),
    "both weights": (
        "bert",
        (LABELS, "task.balance_classes=true", "task.class_weights.a=2"),
        "task.balance_classes=true computes the weights",
    ),
    "weight of none": (
        "bert",
        (LABELS, "task.labels=[positive,negative]", "task.class_weights.positiv=2"),
        "task.class_weights.positiv=2 is none of task.labels: positive, negative; nearest: positive",
    ),
    "negative weight": ("bert", (LABELS, "task.class_weights.a=-1"), "task.class_weights.a=-1 has to be at least 0"),
    "metric": ("t5", (PAIRS, "task.metrics=[rogue]"), "task.metrics=rogue is no metric .*; nearest: rouge"),
    "no answers": (
        "llama",
        ("task.metrics=[rouge]",),
        "task.metrics=rouge .* none are generated; nearest: task.predict_with",
    ),
    "unknown": (
        "t5",
        (PAIRS, "task.generation.num_beam=2"),
        "num_beam=2 is not a key of .*GenerationConfig; nearest: num_beams",
    ),
    "beams": (
        "t5",
        (PAIRS, "task.generation.num_beams=0"),
        "task.generation.num_beams=0 has to be at least 1; nearest: 1",
    ),
    "many": ("t5", (PAIRS, "task.generation.max_new_tokens=many"), "max_new_tokens=many has to be a number"),
    "top": (
        "t5",
        (PAIRS, "task.generation.top_p=2", "task.generation.do_sample=true"),
        "top_p=2 has to be above 0 and at most 1",
    ),
    "greedy": (
        "t5",
        (PAIRS, "task.generation.temperature=0.5"),
        "temperature=0.5 .* nearest: task.generation.do_sample=true",
    ),
    "turns": (
        "t5",
        (PAIRS, "data.completion_only_loss=false"),
        "completion_only_loss=false means nothing for task=seq2seq",
    ),
    "peft type": (
        "llama",
        ("method=peft", "method.peft.peft_type=LORRA"),
        "peft_type=LORRA is not a method of PEFT; .*nearest: .*LORA",
    ),
    "peft key": ("llama", (LORA, "method.peft.rank=8"), "method.peft.rank=8 is not a key of PEFT's LORA"),
    "peft key near": ("llama", (LORA, "method.peft.lora_alfa=8"), "method.peft.lora_alfa=8 .*; nearest: lora_alpha"),
    "owned": (
        "llama",
        (LORA, "method.peft.task_type=CAUSAL_LM"),
        "method.peft.task_type=CAUSAL_LM is given by Muster; nearest: task.name",
    ),
    "bits": (
        "llama",
        (QLORA, "method.quantization_kwargs.bnb_4bit_quant=nf4"),
        "bnb_4bit_quant=nf4 is not a key of BitsAndBytesConfig",
    ),
    "owned bits": (
        "llama",
        (QLORA, "method.quantization_kwargs.load_in_4bit=true"),
        "load_in_4bit=True is given by Muster",
    ),
    "whole bits": (
        "llama",
        (LORA, "method.quantization_kwargs.llm_int8_threshold=5"),
        "method.quantization=none keeps them whole",
    ),
    "demo data": (
        "llama",
        ("data.validation_size=0", "data.validation_file=builtin:demo/validation.jsonl"),
        "is the data of a demo",
    ),
    "long": ("bert", (LABELS, "data.max_length=1024"), "data.max_length=1024 is more than the 512 positions"),
    "long target": ("bart", (PAIRS, "data.max_target_length=600"), "data.max_target_length=600 is more than the 512"),
}


def problems(kind: str, overrides: tuple[str, ...]) -> list[str]:
    given: dict[str, Any] = {**SHAPE, "model_type": kind, "max_position_embeddings": 512}
    facts = Facts(
        cwd="/here",
        cpu_count=4,
        model=ModelFacts(folder="/m", config=given, weights_bytes=1, tokenizer_folder="/m"),
        data_files={"data.train_file": ROWS},
    )
    config = compose([*BASE, "data.max_length=128", *overrides])
    if config.data.validation_file:
        demo = replace(ROWS, key="data.validation_file", given=config.data.validation_file)
        facts = replace(facts, data_files={**facts.data_files, "data.validation_file": demo})
    return [str(problem) for problem in check(config, facts)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "-"))
def test_what_does_not_go_together_is_found(case: str) -> None:
    kind, overrides, expected = CASES[case]
    found = problems(kind, overrides)
    assert len(found) == 1, found
    assert re.search(expected, found[0]), found[0]


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("t5", (PAIRS, "task.generation.num_beams=4", "task.metrics=[rouge]")),
        ("bart", (PAIRS,)),
        ("bert", (LABELS, "task.labels=[a,b]", "task.class_weights.a=2")),
        ("llama", (LABELS, LORA)),
        ("llama", ("task.predict_with_generate=true", "task.generation.do_sample=true", "task.generation.top_p=0.9")),
        ("somebodys-own", (LABELS,)),
        ("somebodys-own", (PAIRS,)),
    ],
)
def test_what_goes_together_passes(kind: str, overrides: tuple[str, ...]) -> None:
    assert problems(kind, overrides) == []


def test_positions_that_are_limits() -> None:
    assert longest_text({"model_type": "t5", "n_positions": 512}) is None
    assert longest_text({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}) == 512
    assert longest_text({"model_type": "bert", "max_position_embeddings": 512}) == 512


def test_a_missing_method_is_told_with_all_there_are() -> None:
    found = problems("llama", ("method.peft.r=8",))
    assert len(found) == 1
    assert all(kind in found[0] for kind in peft_methods())


def test_the_tables_are_those_of_the_installed_libraries() -> None:
    """Equal where the versions are those of the file; another version may know more, and loses what we test by name."""
    from train import libraries

    installed, file = libraries.tables(), (REPOSITORY / "conf" / "libraries.json").read_text()
    assert libraries.encode_tables(json.loads(file)) == file
    assert json.loads(file) == tables()
    if installed["versions"] == tables()["versions"]:
        assert installed == tables()
    assert {"llama", "qwen3", "gemma3_text", "mistral"} <= {*installed["causal_lm"]} & {*tables()["causal_lm"]}
    assert {*tables()["peft"]["LORA"]} & {*installed["peft"]["LORA"]} >= {"r", "lora_alpha", "target_modules"}
    assert installed.keys() == tables().keys()
