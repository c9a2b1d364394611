"""Hub names: resolved to a commit and fetched once, into the person's Hugging Face cache, so that nodes stay offline.

The launcher's own environment has no hub client, so the site's Python does it, as a subprocess.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.facts.hub_words import in_words

COMMIT = re.compile(r"[0-9a-f]{40}")
FETCHED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py")
FETCH_TIMEOUT_S = 6 * 3600

_PROGRAM = """
import json, sys
request = json.loads(sys.argv[1])
try:
    import {module}
except ImportError:
    print(json.dumps({{"lacking": "{module}"}}))
    raise SystemExit
try:
{body}
except Exception as error:
    kinds, each = [], error
    while each is not None:
        kinds += [one.__name__ for one in type(each).__mro__]
        each = each.__cause__ or each.__context__
    print(json.dumps({{"error": f"{{type(error).__name__}}: {{error}}".splitlines()[0], "kinds": kinds}}))
"""
_FETCH_MODEL = """
    name, revision, patterns = request
    folder = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns)
    print(json.dumps({"folder": folder}))
"""
_FETCH_DATA = """
    loaded = datasets.load_dataset(*request)
    splits = {
        name: {
            "rows": len(split),
            "columns": split.column_names,
            "first": list(split.select(range(min(3, len(split))))),
        }
        for name, split in loaded.items()
    }
    print(json.dumps({"splits": splits}, default=str))
"""
_FETCH_HEAD = """
    loaded = datasets.load_dataset(*request, split="train", streaming=True)
    first = list(loaded.take(3))
    print(json.dumps({"splits": {"train": {"rows": None, "columns": list(first[0]), "first": first}}}, default=str))
"""


@dataclass(frozen=True)
class Hub:
    """How hub names are found: `python` has the client, `environment` names the cache.

    Without `fetch` only small files are fetched, and only where nothing else tells the shape; weights never.
    """

    python: str
    environment: Mapping[str, str]
    fetch: bool

    @property
    def is_offline(self) -> bool:
        return self.environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def weights_bytes(folder: Path) -> int | None:
    """Bytes of the safetensors files in a model's folder, by their index where there is one; None without any."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_bytes())
        files = [Path(folder, str(name)) for name in set(content["weight_map"].values())]
        if not any(file.exists() for file in files):
            return int(content["metadata"]["total_size"])  # weights that were not fetched yet
        return sum(file.stat().st_size for file in files)
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    return sum(sizes) if sizes else None


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where Hugging Face keeps fetched repositories for this person."""
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(environment.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser().absolute()


def cached_model(name: str, revision: str | None, hub: Hub, weights: bool, *, offline: bool) -> Path | None:
    """A snapshot that is already there: of a full commit, or of what a name last stood for where the hub is off."""
    repository = hub_cache(hub.environment) / f"models--{name.replace('/', '--')}"
    commit = revision
    if not (revision and COMMIT.fullmatch(revision)):
        if not (offline or hub.is_offline):
            return None
        reference = repository / "refs" / (revision or "main")
        commit = reference.read_text().strip() if reference.is_file() else None
    snapshot = repository / "snapshots" / commit if commit else None
    if snapshot is None or not snapshot.is_dir():
        return None
    try:
        complete = not weights or (any(snapshot.glob("*.safetensors")) and weights_bytes(snapshot) is not None)
    except (OSError, ValueError, KeyError):
        complete = False
    return snapshot if complete else None


def fetch_model(name: str, revision: str | None, hub: Hub, weights: bool) -> dict[str, Any]:
    """`folder` of the snapshot, or `error`."""
    patterns = [pattern for pattern in FETCHED if weights or pattern != "*.safetensors"]
    answer = _ask(hub, "huggingface_hub", _FETCH_MODEL, [name, revision, patterns])
    return _in_words(answer, name, hub, data=False, revision=revision)


def fetch_data(name: str, config_name: str | None, hub: Hub, streaming: bool = False) -> dict[str, Any]:
    """`splits` of a hub data set, each with its rows, columns and first rows, or `error`.

    Of one that will be streamed the first rows of `train` alone are fetched, and `rows` is None.
    """
    answer = _ask(hub, "datasets", _FETCH_HEAD if streaming else _FETCH_DATA, [name, config_name])
    return _in_words(answer, name, hub, data=True)


def _in_words(
    answer: dict[str, Any], name: str, hub: Hub, *, data: bool, revision: str | None = None
) -> dict[str, Any]:
    if "kinds" not in answer:
        return answer
    cache = str(hub_cache(hub.environment))
    return {"error": in_words(name, answer["kinds"], answer["error"], data=data, revision=revision, cache=cache)}


def _ask(hub: Hub, module: str, body: str, request: object) -> dict[str, Any]:
    program = _PROGRAM.format(module=module, body=body.strip("\n"))
    try:
        done = subprocess.run(
            [hub.python, "-I", "-c", program, json.dumps(request)],
            stdout=subprocess.PIPE,
            env=dict(hub.environment),
            timeout=FETCH_TIMEOUT_S,
            check=False,
            text=True,
        )
        lines = done.stdout.strip().splitlines()
        died = {"error": f"could not be fetched: {hub.python} ended with status {done.returncode}"}
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else died
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": f"could not be fetched with {hub.python}: {error}"}
    if "lacking" in answer:
        return {"error": f"could not be fetched: {hub.python} has no {module}; set cluster.python to one that has"}
    return answer
