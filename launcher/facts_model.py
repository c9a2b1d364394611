"""What is known of the model before a plan: config.json, bytes of weights, the commit of a hub name.

A hub name is resolved to a commit and fetched once, into the person's Hugging Face cache, by the site's Python: the
launcher's own environment has no hub client. The nodes stay offline.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conf.schema import ModelConfig, ModelInit

COMMIT = re.compile(r"[0-9a-f]{40}")
TRAIN_TOKENIZER = "train"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
FETCHED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py")
FETCH_TIMEOUT_S = 6 * 3600

_FETCH = """
import json, sys
name, revision, weights, patterns = json.loads(sys.argv[1])
try:
    from huggingface_hub import snapshot_download
except ImportError:
    print(json.dumps({"error": "has no huggingface_hub, so it cannot fetch hub names"}))
    raise SystemExit
try:
    folder = snapshot_download(
        name, revision=revision, allow_patterns=[p for p in patterns if weights or p != "*.safetensors"]
    )
    print(json.dumps({"folder": folder}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}".split("\\n")[0]}))
"""


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


@dataclass(frozen=True)
class Hub:
    """How hub names are found: `python` has the client, `environment` names the cache.

    Without `fetch` only small files are fetched, and only where nothing else tells the shape; weights never.
    """

    python: str
    environment: Mapping[str, str]
    fetch: bool


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


def weights_bytes(folder: Path) -> int | None:
    """Bytes of the safetensors files in a model's folder, by their index where there is one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        return sum(Path(folder, str(name)).stat().st_size for name in names)
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    return sum(sizes) if sizes else None


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
    cached = _cached(name, revision, hub, weights, offline=optional)
    if cached:
        return _read_folder(cached, cached.name, is_model)
    if optional:
        return ModelFacts(unresolved=True)
    answer = _fetch(name, revision, hub, weights)
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


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where Hugging Face keeps fetched repositories for this person."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(environment.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser().absolute()


def _cached(name: str, revision: str | None, hub: Hub, weights: bool, *, offline: bool) -> Path | None:
    """A snapshot that is already there: of a full commit, or of what a name last stood for where the hub is off."""
    repository = hub_cache(hub.environment) / f"models--{name.replace('/', '--')}"
    commit = revision
    if not (revision and COMMIT.fullmatch(revision)):
        if not offline and hub.environment.get("HF_HUB_OFFLINE", "").lower() not in ("1", "true", "yes", "on"):
            return None
        reference = repository / "refs" / (revision or "main")
        commit = reference.read_text().strip() if reference.is_file() else None
    snapshot = repository / "snapshots" / commit if commit else None
    if snapshot is None or not snapshot.is_dir():
        return None
    try:
        complete = not weights or weights_bytes(snapshot) is not None
    except (OSError, ValueError, KeyError):
        complete = False
    return snapshot if complete else None


def _fetch(name: str, revision: str | None, hub: Hub, weights: bool) -> dict[str, str]:
    request = json.dumps([name, revision, weights, FETCHED])
    try:
        done = subprocess.run(
            [hub.python, "-I", "-c", _FETCH, request],
            stdout=subprocess.PIPE,
            env=dict(hub.environment),
            timeout=FETCH_TIMEOUT_S,
            check=False,
            text=True,
        )
        lines = done.stdout.strip().splitlines()
        answer: dict[str, str] = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": f"could not be fetched with {hub.python}: {error}"}
    if "folder" in answer:
        return answer
    reason = answer.get("error", f"exit status {done.returncode}")
    lacks_client = reason.startswith("has no huggingface_hub")
    return {"error": f"{hub.python} {reason}" if lacks_client else f"could not be fetched: {reason}"}
