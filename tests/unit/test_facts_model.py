"""The model before a plan: folders, hub names in the cache, a Python without a hub client, parameters by formula."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conf.schema import ModelConfig, ModelInit
from launcher.facts.hub import Hub
from launcher.facts.model import gather_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model_folder(folder: Path, tokenizer: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    (folder / "a.safetensors").write_bytes(b"1234")
    (folder / "b.safetensors").write_bytes(b"12")
    (folder / "stray.safetensors").write_bytes(b"123456789")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
        (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return folder


def hub(home: Path, fetch: bool = True, offline: bool = False, python: str = sys.executable) -> Hub:
    return Hub(python, {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1" if offline else "0"}, fetch)


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    found = gather_model(ModelConfig(model_name_or_path="m", shape={"hidden_size": 32}), tmp_path, hub(tmp_path))
    assert (found.error, found.tokenizer_error, found.commit) == ("", "", "")
    assert found.folder == found.tokenizer_folder == str(folder)
    assert found.config == {"model_type": "llama", "hidden_size": 32}
    assert found.weights_bytes == 6
    assert found.has_chat_template


@pytest.mark.parametrize(
    ("given", "error", "tokenizer_error"),
    [
        pytest.param(ModelConfig(model_name_or_path="./absent"), "absent is not a folder", "", id="no folder"),
        pytest.param(ModelConfig(model_name_or_path="empty"), "has no config.json", "", id="no config"),
        pytest.param(ModelConfig(model_name_or_path="bare"), "", "bare has no tokenizer files", id="no tokenizer"),
        pytest.param(ModelConfig(), "no model.shape to make a model from", "", id="nothing given"),
        pytest.param(
            ModelConfig(shape={"model_type": "llama"}, init=ModelInit.random), "", "is null", id="shape, no tokenizer"
        ),
        pytest.param(
            ModelConfig(shape={"model_type": "llama"}, tokenizer_name_or_path="train"), "", "", id="tokenizer trained"
        ),
    ],
)
def test_what_is_missing_is_recorded(tmp_path: Path, given: ModelConfig, error: str, tokenizer_error: str) -> None:
    (tmp_path / "empty").mkdir()
    model_folder(tmp_path / "bare", tokenizer=False)
    found = gather_model(given, tmp_path, hub(tmp_path))
    assert (error in found.error) if error else found.error == ""
    assert (tokenizer_error in found.tokenizer_error) if tokenizer_error else found.tokenizer_error == ""


@pytest.mark.parametrize(
    ("revision", "offline"), [(COMMIT, False), (None, True), ("main", True)], ids=["commit", "default", "branch"]
)
def test_a_hub_name_in_the_cache_needs_no_network(tmp_path: Path, revision: str | None, offline: bool) -> None:
    repository = tmp_path / "hub" / "models--o--m"
    snapshot = model_folder(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    given = ModelConfig(model_name_or_path="o/m", revision=revision)
    found = gather_model(given, tmp_path, hub(tmp_path, offline=offline, python="/bin/false"))
    assert (found.folder, found.commit, found.error) == (str(snapshot), COMMIT, "")


def test_a_python_without_hub_client_says_so(tmp_path: Path) -> None:
    """An isolated Python without site packages stands for a login node's own."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    found = gather_model(ModelConfig(model_name_or_path="o/m"), tmp_path, hub(tmp_path, python=str(bare)))
    assert f"{bare} has no huggingface_hub; set cluster.python" in found.error


def test_a_plan_with_a_shape_looks_nothing_up(tmp_path: Path) -> None:
    given = ModelConfig(model_name_or_path="o/m", shape={"model_type": "llama"})
    found = gather_model(given, tmp_path, hub(tmp_path, fetch=False, python="/bin/false"))
    assert found.unresolved
    assert (found.error, found.tokenizer_error, found.config) == ("", "", {"model_type": "llama"})
