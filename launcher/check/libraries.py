"""What transformers and PEFT know, from tables: model types by task, and the keys of their configurations.

`conf/libraries.json` is written by `python -m train.libraries`; nothing here imports a library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from conf import layout
from conf.schema import TaskName
from launcher.problems import Problem, nearest


@cache
def tables() -> dict[str, Any]:
    """The file's content."""
    found: dict[str, Any] = json.loads((Path(layout.__file__).parent / "libraries.json").read_bytes())
    return found


def model_types(task: str) -> frozenset[str]:
    """Model types that transformers has a class for; `task` is a task's name, or `masked_lm`."""
    return frozenset(tables()[task])


def generation_keys() -> frozenset[str]:
    """Keys of transformers' GenerationConfig."""
    return frozenset(tables()["generation"])


def bitsandbytes_keys() -> frozenset[str]:
    """Keys of transformers' BitsAndBytesConfig."""
    return frozenset(tables()["bitsandbytes"])


def peft_methods() -> Mapping[str, list[str]]:
    """Keys of each of PEFT's methods, by its `peft_type`."""
    methods: dict[str, list[str]] = tables()["peft"]
    return methods


def unknown_keys(prefix: str, given: Mapping[str, Any], known: Iterable[str], owner: str) -> Iterator[Problem]:
    """A problem for each key of `given` that is not `known`."""
    possible = sorted(known)
    for name, value in given.items():
        if name not in possible:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            yield Problem(f"{prefix}.{name}", shown, f"is not a key of {owner}", nearest(name, possible))


def needs_own_code(shape: Mapping[str, Any], task: TaskName) -> bool:
    """Whether a model's config.json names code beside it and transformers, which takes its own, has no class for it."""
    return shape.get("auto_map") is not None and str(shape.get("model_type")) not in model_types(task.value)
