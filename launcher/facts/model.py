"""What is known of the model before a plan: config.json, bytes of weights, its tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conf.schema import ModelConfig, ModelInit
from launcher.facts.hub import COMMIT, Hub, cached_model, fetch_model, weights_bytes

TRAIN_TOKENIZER = "train"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")


@dataclass(frozen=True)
class ModelFacts:
    """The model as it was found.

    `folder` is the absolute local folder with config.json (of a hub name: the snapshot in the person's Hugging Face
    cache), empty where the model is made from `model.shape` alone. `commit` is the hub's. `config` is config.json's
    content with `model.shape` laid over it. `weights_bytes` is None where no safetensors are there.
    `tokenizer_folder` is absolute, or empty where it is trained on the data or missing. `error` and `tokenizer_error`
    are why they cannot be used, or empty. `unresolved` says that a hub name was not looked up: only a plan can be made.
    """

    folder: str = ""
    commit: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    weights_bytes: int | None = None
    tokenizer_folder: str = ""
    has_chat_template: bool = False
    error: str = ""
    tokenizer_error: str = ""
    unresolved: bool = False


def gather_model(config: ModelConfig, cwd: Path, hub: Hub) -> ModelFacts:
    """Look at the model and its tokenizer, fetching hub names; what is missing is recorded, not raised."""
    facts = ModelFacts(config=dict(config.shape))
    if config.model_name_or_path:
        weights = hub.fetch and config.init is ModelInit.pretrained
        optional = bool(config.shape) and not hub.fetch
        found = _find(config.model_name_or_path, config.revision, cwd, hub, weights=weights, optional=optional)
        facts = replace(found, config={**found.config, **config.shape})
    elif not config.shape:
        facts = replace(facts, error="is empty, and there is no model.shape to make a model from")
    return _with_tokenizer(facts, config, cwd, hub)


def _with_tokenizer(facts: ModelFacts, config: ModelConfig, cwd: Path, hub: Hub) -> ModelFacts:
    given = config.tokenizer_name_or_path
    if given == TRAIN_TOKENIZER:
        return facts
    found = _find(given, None, cwd, hub, weights=False, optional=not hub.fetch, is_model=False) if given else facts
    if found.unresolved or (facts.error and not given):
        return facts
    if not found.folder:
        return replace(facts, tokenizer_error=found.error or "is null, and the model has no folder with a tokenizer")
    here = Path(found.folder)
    if not any((here / name).is_file() for name in TOKENIZER_FILES):
        return replace(facts, tokenizer_error=f"{here} has no tokenizer files")
    return replace(facts, tokenizer_folder=str(here), has_chat_template=_has_chat_template(here))


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        content = json.loads((folder / "tokenizer_config.json").read_bytes())
        return isinstance(content, dict) and bool(content.get("chat_template"))
    except (OSError, ValueError):
        return False


def _find(
    name: str, revision: str | None, cwd: Path, hub: Hub, *, weights: bool, optional: bool, is_model: bool = True
) -> ModelFacts:
    local = Path(cwd, Path(name).expanduser()).absolute()
    if local.is_dir():
        return _read_folder(local, "", is_model)
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        return ModelFacts(error=f"{local} is not a folder")
    cached = cached_model(name, revision, hub, weights, offline=optional)
    if cached:
        return _read_folder(cached, cached.name, is_model)
    if optional:
        return ModelFacts(unresolved=True)
    answer = fetch_model(name, revision, hub, weights)
    if "error" in answer:
        return ModelFacts(error=answer["error"])
    folder = Path(answer["folder"])
    return _read_folder(folder, folder.name if COMMIT.fullmatch(folder.name) else "", is_model)


def _read_folder(folder: Path, commit: str, is_model: bool) -> ModelFacts:
    try:
        content = json.loads((folder / "config.json").read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return ModelFacts(str(folder), commit, content, weights_bytes(folder))
    except FileNotFoundError:
        return ModelFacts(str(folder), commit, error=f"{folder} has no config.json" if is_model else "")
    except (OSError, ValueError, KeyError) as error:
        return ModelFacts(str(folder), commit, error=f"{folder}/config.json cannot be read: {error}")
