"""What makes two runs the same: a configuration's content, its hash, the difference between two.

Free keys may change between the attempts of a run, so they are no part of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from conf.schema import ModelInit, RunConfig, TaskName

FREE_GROUPS = ("cluster", "tracking", "sweep", "health")
FREE_KEYS = ("name", "run_root", "access", "data.cache_dir", "data.prepare", "data.prepare_workers")
NOTHING_FREE: tuple[str, Any] = ("parallel.auto", [])
"""Said by every run whose keys are all given or chosen."""

HASH_DIGITS = 8
_ABSENT = "(not given)"


def content_of(config: RunConfig) -> dict[str, Any]:
    """The configuration without its free keys, flat: dotted key → plain value."""
    return flat_content(plain(config))


def plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested mappings of plain values."""
    nested: dict[str, Any] = msgspec.to_builtins(config)
    return nested


def flat_content(config: Mapping[str, Any]) -> dict[str, Any]:
    """`content_of` for a configuration that was read from a `run.json`."""
    kept = flatten({key: value for key, value in config.items() if key not in FREE_GROUPS})
    return {key: value for key, value in kept.items() if key not in FREE_KEYS and (key, value) != NOTHING_FREE}


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping as dotted key → value, sorted; enums become their values, empty mappings stay."""
    flat: dict[str, Any] = {}
    _flatten("", nested, flat)
    return dict(sorted(flat.items()))


def content_hash(config: RunConfig) -> str:
    """SHA-256 over the content, in hex."""
    text = json.dumps(content_of(config), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(config: RunConfig) -> str:
    """The run's name: as given, else from model, task and method."""
    if config.name:
        return config.name
    if config.task.name is TaskName.script:
        return _lettered(Path(config.train.entrypoint or "script").stem)
    given = config.model.model_name_or_path.rstrip("/")
    model = given.rsplit("/", 1)[-1] or str(config.model.shape.get("model_type", "model"))
    if config.model.init is ModelInit.random and not given:
        model = f"random-{model}"
    words = [Path(model).name, config.task.name.value, config.method.name]
    return _lettered("-".join(words).lower())


def _lettered(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)


def run_id(config: RunConfig) -> str:
    """`<name>-<8 hex digits of the content's hash>`."""
    return f"{run_name(config)}-{content_hash(config)[:HASH_DIGITS]}"


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Lines like `optim.learning_rate: 1e-05 → 2e-05` for two contents (or two flat mappings)."""
    lines: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old != new:
            lines.append(f"{key}: {_shown(old)} → {_shown(new)}")
    return lines


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), part, into)
    else:
        into[prefix] = value.value if isinstance(value, Enum) else value


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
