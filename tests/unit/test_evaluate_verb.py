"""`muster evaluate`: the configuration that a run, or a model, is evaluated with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.schema import ExportWhen, ModelInit, ProblemType, RunConfig, TaskName
from launcher import cli
from launcher.problems import ConfigurationError, NotFoundError
from launcher.send.evaluation import of_model, of_run, require_export


@pytest.fixture
def trained(tmp_path: Path) -> tuple[RunFolder, RunConfig]:
    """A classifier's run: its export, its labels, its configuration."""
    folder = RunFolder(tmp_path / "runs" / "demo-12345678")
    folder.export.mkdir(parents=True)
    (folder.export / "config.json").write_text("{}")
    labels = {"problem_type": "single_label_classification", "names": ["no", "yes"]}
    folder.data_json.write_text(json.dumps({"labels": labels}))
    config = RunConfig(name="demo", run_root=str(folder.path.parent))
    config.task = replace(config.task, name=TaskName.seq_cls)
    config.method = replace(config.method, name="lora", peft={"peft_type": "LORA"})
    config.data = replace(config.data, train_file="/d/train.jsonl", test_file="/d/test.jsonl")
    config.train = replace(config.train, load_best_model_at_end=True, early_stopping_patience=2, max_steps=100)
    return folder, config


def test_a_run_is_evaluated_by_its_export_on_its_own_data_without_what_only_training_needs(
    trained: tuple[RunFolder, RunConfig],
) -> None:
    folder, before = trained
    config = of_run(folder, before, [], None)
    assert (config.train.max_steps, config.checkpoint.export) == (0, ExportWhen.never)
    assert (config.train.load_best_model_at_end, config.train.early_stopping_patience) == (False, 0)
    assert (config.model.init, config.model.model_name_or_path) == (ModelInit.pretrained, str(folder.export))
    assert config.method.peft == {}
    assert (config.data.train_file, config.data.test_file) == (None, "/d/test.jsonl")
    assert (config.task.problem_type, config.task.labels) == (
        ProblemType.single_label_classification,
        ["no", "yes"],
    )


def test_rows_that_were_held_out_of_the_training_data_are_found_there_again(
    trained: tuple[RunFolder, RunConfig],
) -> None:
    folder, before = trained
    before.data = replace(before.data, test_file=None, test_size=0.1)
    assert of_run(folder, before, [], None).data == before.data


def test_named_data_is_all_that_is_evaluated(trained: tuple[RunFolder, RunConfig]) -> None:
    folder, before = trained
    before.data = replace(before.data, validation_size=0.1, max_length=77)
    data = of_run(folder, before, ["data.validation_file=other.jsonl", "data.max_bad_rows=3"], None).data
    assert (data.validation_file, data.max_bad_rows, data.max_length) == ("other.jsonl", 3, 77)
    assert (data.train_file, data.test_file, data.validation_size) == (None, None, 0.0)


def test_each_evaluation_is_a_run_of_its_own(trained: tuple[RunFolder, RunConfig]) -> None:
    folder, before = trained
    assert of_run(folder, before, [], None).name == "demo-evaluation"
    (folder.path.parent / "demo-evaluation-0a1b2c3d").mkdir()
    assert of_run(folder, before, [], None).name == "demo-evaluation-2"
    assert of_run(folder, before, ["name=mine"], None).name == "mine"


def test_a_run_without_a_model_says_how_to_get_one(trained: tuple[RunFolder, RunConfig]) -> None:
    folder, _ = trained
    require_export(folder)
    (folder.export / "config.json").unlink()
    with pytest.raises(NotFoundError, match="muster export demo-12345678"):
        require_export(folder)
    folder.adapter.mkdir()
    (folder.adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(NotFoundError, match=r"method\.merge=true"):
        require_export(folder)


def test_a_model_brings_its_task_and_its_labels(tmp_path: Path) -> None:
    shape = {
        "architectures": ["BertForSequenceClassification"],
        "problem_type": "multi_label_classification",
        "id2label": {"1": "sad", "0": "glad", "10": "cross", "2": "calm"},
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    config = of_model(str(tmp_path), ["data.test_file=test.jsonl"], None)
    assert (config.task.name, config.task.problem_type) == (TaskName.seq_cls, ProblemType.multi_label_classification)
    assert config.task.labels == ["glad", "sad", "calm", "cross"]
    assert (config.train.max_steps, config.model.model_name_or_path) == (0, str(tmp_path))
    assert of_model(str(tmp_path), ["task=causal_lm"], None).task.name is TaskName.causal_lm


def test_a_model_brings_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    tokenizers = {
        of_model(str(tmp_path), words, None).model.tokenizer_name_or_path
        for words in ([], ["data.test_file=test.jsonl"], ["model=hf"])
    }
    assert tokenizers == {None}
    given = of_model(str(tmp_path), ["model.tokenizer_name_or_path=./other"], None)
    assert given.model.tokenizer_name_or_path == "./other"
    forced = of_model(str(tmp_path), ["++model.tokenizer_name_or_path=./other"], None)
    assert forced.model.tokenizer_name_or_path == "./other"


def test_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="is an adapter"):
        of_model(str(tmp_path), [], None)


def test_a_word_that_is_no_run_says_how_a_model_of_the_hub_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "gpt2", "--run-root", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert "no run 'gpt2'" in said
    assert "a model on the hub is owner/name" in said
    (tmp_path / "empty").mkdir()
    assert cli.main(["evaluate", str(tmp_path / "empty"), "--run-root", str(tmp_path)]) == 4
    assert "hub" not in capsys.readouterr().err
