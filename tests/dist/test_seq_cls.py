"""Classifiers over real ranks: one curve and one set of figures however they are sharded, new heads among it.

The base is a small BERT without a head, its data pairs of texts with three labels; beside it a causal model with a
head, several labels, numbers, and a slice of Banking77.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn import metrics as sklearn_metrics

from conf.layout import RunFolder
from conf.outcome import State
from conf.schema import ModelInit, RunConfig, TaskName
from tests.conftest import REPOSITORY
from tests.dist.harness import launch_each
from tests.dist.runs import configuration, events, metrics, outcome, train_runs, write_plan

pytestmark = pytest.mark.dist

STEPS, CUT = 9, 6
TOLERANCE = 1e-6
BANKING = REPOSITORY.parent / "shared" / "data" / "banking77"
NAMES = ["entails", "contradicts", "says nothing"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
BERT = {
    "model_type": "bert",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
    **SIZES,
}
LLAMA = {"model_type": "llama", "num_key_value_heads": 2, "initializer_range": 0.2, **SIZES}
WORDS = ("sun", "sea", "oak", "ice", "owl", "fox")


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of texts whose label, labels and number follow from their words."""
    generator = np.random.default_rng(seed)
    made = []
    for length, first, second in zip(*generator.integers(0, 6, (3, count)), strict=True):
        made.append(
            {
                "premise": " ".join([WORDS[first]] * (1 + length)),
                "hypothesis": WORDS[second],
                "label": NAMES[0] if first == second else NAMES[1 + first % 2],
                "labels": sorted({WORDS[first], WORDS[second]} - {"fox"}),
                "score": [float(length) / 4],
            }
        )
    return made


def settings(folder: Path, stage: int, **changes: Any) -> RunConfig:
    config = configuration(stage, 2, "none", STEPS)
    config.task.name = TaskName.seq_cls
    config.model.tokenizer_name_or_path, config.model.tokenizer_vocab_size = "train", 280
    config.model.shape = dict(BERT)
    config.data.train_file, config.data.test_file = str(folder / "train.jsonl"), str(folder / "test.jsonl")
    config.data.columns = {"label": "label"}
    config.data.cache_dir = str(folder / "cache")
    config.checkpoint.save_steps = 3
    for name, value in changes.items():
        group, _, key = name.partition("__")
        setattr(getattr(config, group), key, value)
    return config


def write_data_run(folder: Path, config: RunConfig, export: bool = False) -> RunFolder:
    """A run folder as the data step leaves it."""
    from train.data.prepare import prepare

    run, plan = write_plan(folder, config, export)
    prepare(plan, run, lambda *_: None)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and `base`: a BERT without a head, with its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("classify")
    for name, count in (("train", 41), ("test", 13)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count, len(name))))
    made = write_data_run(folder / "random", settings(folder, 0)).model
    AutoTokenizer.from_pretrained(made).save_pretrained(folder / "base")
    AutoModel.from_pretrained(made).save_pretrained(folder / "base")
    return folder


def pretrained(folder: Path, stage: int, **changes: Any) -> RunConfig:
    base = {"init": ModelInit.pretrained, "model_name_or_path": str(folder / "base"), "tokenizer_name_or_path": None}
    given = {f"model__{name}": value for name, value in base.items()}
    weights = {"task__class_weights": {NAMES[0]: 2.0}, "task__balance_classes": True}
    return settings(folder, stage, **given, **weights, **changes)


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, RunFolder]:
    """Finished runs by `<what><ZeRO stage>x<ranks>`."""
    several = {"data__columns": {"label": "labels"}}
    numbers = {"data__columns": {"label": "score"}}
    causal = {"model__shape": dict(LLAMA)}
    plans = {
        1: {"bert0x1": pretrained(folder, 0), "bert3x1": pretrained(folder, 3)},
        2: {
            **{f"bert{stage}x2": pretrained(folder, stage) for stage in range(4)},
            "causal3x2": settings(folder, 3, **causal),
            "several2x2": settings(folder, 2, **several),
            "numbers3x2": settings(folder, 3, **numbers),
        },
        4: {"bert1x4": pretrained(folder, 1, train__per_device_train_batch_size=1)},
    }
    made: dict[str, RunFolder] = {}
    for ranks, configs in plans.items():
        found = {name: write_data_run(folder / name, config, ranks == 2) for name, config in configs.items()}
        launch_each(train_runs, ranks, [(list(found.values()),)])
        made |= found
    return made


def curve(run: RunFolder) -> list[tuple[float, float]]:
    return [(line["train/loss"], line["train/grad_norm"]) for line in metrics(run) if "train/loss" in line]


def predictions(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.predictions("test").read_text().splitlines()]


def test_one_curve_however_a_new_head_is_sharded(runs: dict[str, RunFolder]) -> None:
    expected = np.array(curve(runs["bert0x1"]))
    assert len(expected) == STEPS
    assert expected[-1, 0] < 0.9 * expected[0, 0], "nothing is learned: the curve shows nothing"
    for name in ("bert3x1", "bert0x2", "bert1x2", "bert2x2", "bert3x2", "bert1x4"):
        np.testing.assert_allclose(np.array(curve(runs[name])), expected, rtol=10 * TOLERANCE, err_msg=name)
        [new] = events(runs[name], "new_weights")
        assert new["text"].endswith("drawn anew: classifier.bias, classifier.weight")


def test_figures_are_scikit_learns_on_each_document_once(runs: dict[str, RunFolder]) -> None:
    expected = outcome(runs["bert0x1"]).metrics
    for name in ("bert0x1", "bert3x2", "bert1x4"):
        found = outcome(runs[name])
        assert found.state is State.done
        assert found.metrics == pytest.approx(expected, rel=1e-5), name
        lines = predictions(runs[name])
        assert [line["document"] for line in lines] == list(range(13))
        right, said = ([line[side] for line in lines] for side in ("reference", "prediction"))
        assert right == [row["label"] for row in rows(13, len("test"))]
        assert found.metrics["test/accuracy"] == sklearn_metrics.accuracy_score(right, said)
        assert found.metrics["test/f1_macro"] == sklearn_metrics.f1_score(right, said, average="macro")
        assert runs[name].figure("confusion-test").exists()
        assert len(json.loads(runs[name].class_report("test").read_text())) == len(NAMES)


@pytest.mark.parametrize("name", ["bert2x2", "bert3x2"])
def test_going_on_in_the_middle_changes_nothing(name: str, runs: dict[str, RunFolder], tmp_path: Path) -> None:
    cut = RunFolder(shutil.copytree(runs[name].path, tmp_path / "cut", symlinks=True))
    for path in cut.checkpoints.iterdir():
        if int(path.name.removeprefix("step-")) > CUT:
            shutil.rmtree(path)
    cut.metrics.unlink()
    launch_each(train_runs, 2, [([cut],)])
    assert curve(cut) == curve(runs[name])[CUT:]
    assert outcome(cut).metrics == outcome(runs[name]).metrics


@pytest.mark.parametrize("name", ["bert2x2", "bert3x2", "causal3x2", "several2x2", "numbers3x2"])
def test_the_export_is_what_transformers_classifies_with(name: str, runs: dict[str, RunFolder]) -> None:
    from transformers import pipeline

    run = runs[name]
    assert outcome(run).export_verified
    config = json.loads((run.export / "config.json").read_text())
    classify = pipeline("text-classification", model=str(run.export), device="cpu")
    texts = [{"text": row["premise"], "text_pair": row["hypothesis"]} for row in rows(13, len("test"))]
    lines = predictions(run)
    if name.startswith("numbers"):
        assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "score"})
        [said] = [classify([text], function_to_apply="none")[0]["score"] for text in texts[:1]]
        assert said == pytest.approx(lines[0]["prediction"][0], abs=1e-5)
        assert outcome(run).metrics["test/mse"] >= 0
        return
    if name.startswith("several"):
        assert config["problem_type"] == "multi_label_classification"
        for text, line in zip(texts[:3], lines[:3], strict=True):
            found = {one["label"]: one["score"] for one in classify([text], top_k=None)[0]}
            assert found == pytest.approx(line["probabilities"], abs=1e-4)
        assert 0 <= outcome(run).metrics["test/f1_micro"] <= 1
        return
    assert set(config["id2label"].values()) == set(NAMES)
    for text, line in zip(texts, lines, strict=True):
        [answer] = classify([text])
        assert (answer["label"], answer["score"]) == (line["prediction"], pytest.approx(line["probability"], abs=1e-4))


def test_a_head_behind_virtual_tokens_is_exported_whole(folder: Path) -> None:
    """DeepSpeed itself leaves parameters whole that are small or just used; the head of a real model is neither."""
    method = {"method__name": "adapter", "method__peft": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}}
    zero = {"stage3_param_persistence_threshold": 10, "stage3_max_reuse_distance": 0, "stage3_max_live_parameters": 0}
    sharded = {"parallel__deepspeed": {"zero_optimization": zero}}
    shape = {"model__shape": {**BERT, "max_position_embeddings": 128}}
    run = write_data_run(folder / "prompt3x2", settings(folder, 3, **shape, **method, **sharded), export=True)
    launch_each(train_runs, 2, [([run],)])
    assert outcome(run).export_verified
    shapes = {
        name: tuple(tensor.shape) for name, tensor in load_file(run.adapter / "adapter_model.safetensors").items()
    }
    assert shapes.pop("prompt_embeddings") == (3, 32)
    assert sorted(shapes.values()) == [(3,), (3, 32)]


@pytest.mark.skipif(not BANKING.is_dir(), reason="shared/data/banking77 is not there")
def test_a_slice_of_banking77(folder: Path, tmp_path: Path) -> None:
    """Real rows, their labels in a column of another name."""
    with (BANKING / "train.csv").open(newline="") as file:
        chosen = list(csv.reader(file))[1::160]
    for name, part in (("train", chosen), ("test", chosen[:16])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *part])
    files = {f"data__{name}_file": str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    more = {"data__validation_size": 8, "train__eval_samples": 4}
    config = settings(folder, 2, data__columns={"label": "category"}, train__max_steps=3, **files, **more)
    run = write_data_run(tmp_path / "run", config, export=True)
    launch_each(train_runs, 2, [([run],)])
    assert {line["reference"] for line in predictions(run)} <= {label for _, label in chosen}
    assert outcome(run).state is State.done
    samples = [json.loads(line) for line in run.samples.read_text().splitlines()]
    assert [set(sample) for sample in samples] == [{"text", "expected", "answer", "probability"}] * 4
