"""`muster serve` before it starts anything: which model is meant, what is refused, what vLLM is told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from conf.schema import TaskName
from conf.serving import ServeSettings, decode_settings, encode_settings, task_of
from launcher import cli
from launcher.problems import MusterError, NotFoundError
from launcher.send.serve import find_model
from launcher.show.vllm import vllm_command

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4096}
T5 = {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
BERT = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 512}
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 12, "base_model_name_or_path": "org/base"}


def folder_with(folder: Path, name: str, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (LLAMA, TaskName.causal_lm),
        ({"architectures": ["GPT2LMHeadModel"]}, TaskName.causal_lm),
        (T5, TaskName.seq2seq_lm),
        (BERT, TaskName.seq_cls),
        ({"architectures": ["BartForSequenceClassification"], "is_encoder_decoder": True}, TaskName.seq_cls),
        ({"architectures": ["BertModel"]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_models_config_says_what_it_is_served_as(config: dict[str, object], task: TaskName | None) -> None:
    assert task_of(config) is task


def test_settings_reach_the_server_whole() -> None:
    settings = ServeSettings(folder="/a b/c", name="ü", port=0, timeout_s=0.5, trust_remote_code=True)
    assert decode_settings(encode_settings(settings)) == settings


def test_a_folder_or_a_run_is_found(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "model", "config.json", LLAMA)
    assert find_model(str(model), None).folder == model
    run = folder_with(tmp_path / "runs" / "demo-12345678", "run.json", {})
    with pytest.raises(NotFoundError, match="muster export demo-12345678"):
        find_model("demo", str(run.parent))
    adapter = folder_with(run / "adapter", "adapter_config.json", LORA)
    assert find_model("demo", str(run.parent)).folder == adapter
    export = folder_with(run / "export", "config.json", LLAMA)
    found = find_model("demo", str(run.parent))
    assert (found.folder, found.name) == (export, "demo-12345678")
    assert find_model("demo", str(run.parent), base="org/other").folder == adapter
    assert find_model(str(run), None).folder == export
    with pytest.raises(NotFoundError, match="no model, no adapter and no run"):
        find_model(str(tmp_path), None)
    with pytest.raises(NotFoundError):
        find_model("nothing", str(run.parent))


def test_an_export_that_did_not_pass_is_not_served_unasked(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "runs" / "demo-12345678", "run.json", {})
    unverified = folder_with(run / "export.unverified", "config.json", LLAMA)
    with pytest.raises(NotFoundError, match="did not pass"):
        find_model("demo", str(run.parent))
    assert find_model(str(unverified), None).folder == unverified


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], ["--host=0.0.0.0", "MUSTER_API_KEY"]),
        (["--host", "::"], ["MUSTER_API_KEY"]),
        (["--port", "70000", "--queue", "-1"], ["--port=70000", "--queue=-1"]),
        (["--timeout", "nan"], ["--timeout"]),
        (["--max-new-tokens", "0"], ["--max-new-tokens=0"]),
    ],
    ids=str,
)
def test_wrong_flags_are_refused_together(
    words: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MUSTER_API_KEY", raising=False)
    model = folder_with(tmp_path / "model", "config.json", LLAMA)
    assert cli.main(["serve", str(model), *words]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in said), error


def test_a_key_in_the_environment_lets_others_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_API_KEY", "canary-77")
    model = folder_with(tmp_path / "model", "config.json", LLAMA)
    assert cli.main(["serve", str(model), "--host", "0.0.0.0", "--engine", "vllm"]) == 0
    printed = capsys.readouterr().out
    assert "canary-77" not in printed
    words = shlex.split(printed)
    assert words[0] == "VLLM_API_KEY=$MUSTER_API_KEY"
    assert words[1:4] == ["vllm", "serve", str(model)]
    assert words[words.index("--served-model-name") + 1] == "model"
    assert words[words.index("--max-model-len") + 1] == "4096"


def test_vllm_gets_an_adapter_on_its_base(tmp_path: Path) -> None:
    adapter = folder_with(tmp_path / "my adapter", "adapter_config.json", LORA)
    words = shlex.split(vllm_command(ServeSettings(folder=str(adapter), name="mine")))
    assert words[1:4] == ["vllm", "serve", "org/base"]
    assert words[words.index("--lora-modules") + 1] == f"mine={adapter}"
    assert words[words.index("--max-lora-rank") + 1] == "16"
    folder_with(adapter, "adapter_config.json", {**LORA, "use_dora": True})
    with pytest.raises(MusterError, match="DoRA"):
        vllm_command(ServeSettings(folder=str(adapter), name="mine"))


def test_vllm_classifies_and_has_no_encoder_decoders(tmp_path: Path) -> None:
    bert = folder_with(tmp_path / "bert", "config.json", BERT)
    assert "--convert classify" in vllm_command(ServeSettings(folder=str(bert), name="bert"))
    t5 = folder_with(tmp_path / "t5", "config.json", T5)
    with pytest.raises(MusterError, match="encoder-decoder"):
        vllm_command(ServeSettings(folder=str(t5), name="t5"))
