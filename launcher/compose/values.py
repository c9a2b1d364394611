"""Whether one value fits one key: types, and words that YAML turned into something else. Pure."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, get_args, get_origin

from launcher.compose.keys import Key
from launcher.problems import Problem, nearest

BOOLEAN_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "1", "0"}
INTERPOLATION = re.compile(r"\$\{")
SECRET_NAME = re.compile(r"(?i)(token|secret|passw|credential|private|(api|access|auth)_?key)")


def value_problem(key: Key, path: str, value: Any, text: str | None = None, quote_with: str = "'") -> Problem | None:
    """What is wrong with `value` at `path`, which `key` owns; `text` is how the person wrote it.

    A value inside an open mapping is held to the mapping's value type.
    """
    hint, nullable = key.hint, key.nullable
    if path != key.path:
        if path.count(".") > key.path.count(".") + 1:
            return None
        hint, nullable = get_args(key.hint)[1], True
    shown = text if text is not None else _shown(value)
    if isinstance(value, str) and INTERPOLATION.search(value):
        return _secret_problem(path, value)
    if value is None:
        return None if nullable else Problem(path, "null", f"needs {key.type_text}; leave it out for the default")
    reason = _reason(hint, value, shown, path, quote_with)
    return Problem(path, shown, *reason) if reason else None


def _secret_problem(path: str, value: str) -> Problem | None:
    for name in re.findall(r"oc\.env:([^,}]+)", value):
        if SECRET_NAME.search(name):
            return Problem(
                path, value, "would write a secret into the run folder; secrets are read on the node from ~/.netrc, "
                "the Hugging Face token file or the environment of a local run"
            )  # fmt: skip
    return None


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(hint: Any, value: Any, shown: str, path: str, quote: str) -> tuple[str, str] | None:
    """Rule and nearest value, or None where the value fits."""
    if hint is Any:
        return None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_reason(hint, value, shown, quote)
    if hint is bool:
        fits = isinstance(value, bool) or (isinstance(value, str | int) and str(value).lower() in BOOLEAN_WORDS)
        return None if fits else ("has to be true or false", "")
    if hint in (int, float):
        return _number_reason(hint, value)
    if hint is str:
        return _text_reason(value, shown, path, quote)
    return _collection_reason(hint, value, path, quote)


def _enum_reason(hint: type[Enum], value: Any, shown: str, quote: str) -> tuple[str, str] | None:
    options = list(hint.__members__)
    if isinstance(value, hint) or value in options:
        return None
    if isinstance(value, bool) and shown.lower() in options:
        return f"was read as a boolean; quote the word: {quote}{shown}{quote}", ""
    return f"has to be one of {', '.join(options)}", nearest(shown.lower(), options)


def _number_reason(hint: type, value: Any) -> tuple[str, str] | None:
    word = "whole number" if hint is int else "number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return f"has to be a {word}", ""
    try:
        number = float(value)
    except ValueError:
        return f"has to be a {word}", ""
    if hint is float or isinstance(value, int):
        return None
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        return None
    return "has to be a whole number", str(round(number)) if abs(number) < 1e15 else ""


def _text_reason(value: Any, shown: str, path: str, quote: str) -> tuple[str, str] | None:
    quoted = f"{quote}{shown}{quote}"
    if path == "cluster.time" and not isinstance(value, str):
        return (
            "was read as a number; give the time limit in quotes",
            f"{quote}12:30:00{quote}" if shown.isdigit() else quoted,
        )
    if isinstance(value, str):
        if path == "cluster.time" and value.isdigit():
            return "is a bare number, which sbatch takes for minutes; say hours:minutes:seconds", _clock(int(value))
        return None
    if isinstance(value, bool):
        return f"was read as a boolean ({value}); quote the word", quoted
    if isinstance(value, int) and str(value) == shown:
        return None
    if isinstance(value, int | float):
        return f"was read as the number {value}; quote the word", quoted
    return "has to be text", ""


def _clock(minutes: int) -> str:
    return f"'{minutes // 60:02d}:{minutes % 60:02d}:00'"


def _collection_reason(hint: Any, value: Any, path: str, quote: str) -> tuple[str, str] | None:
    item = get_args(hint)[-1]
    if get_origin(hint) is list:
        if not isinstance(value, list):
            return "has to be a list", f"[{value}]" if isinstance(value, str | int | float) else ""
        entries = [(f"entry {number}", entry) for number, entry in enumerate(value)]
    else:
        if not isinstance(value, dict):
            return "has to be a mapping of names to values", ""
        entries = [(str(name), entry) for name, entry in value.items()]
    for name, entry in entries:
        if isinstance(entry, str) and INTERPOLATION.search(entry):
            continue
        reason = _reason(item, entry, _shown(entry), f"{path}.{name}", quote)
        if reason:
            return f"{name}: {reason[0]}", reason[1]
    return None
