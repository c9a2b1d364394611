"""Values in the grammar of Hydra's overrides, so that what is written is what is read. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any


def written(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return written(value.value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    return _text(str(value))


def _key(key: Any) -> str:
    """Keys have no quotes there: what the grammar would take for its own is escaped."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", str(key))


def _text(text: str) -> str:
    """A text as it is where the grammar takes it for one, else in quotes."""
    plain = re.fullmatch(r"[A-Za-z/_][\w./-]*", text) is not None
    return text if plain and text.lower() not in ("null", "true", "false", "nan", "inf") else quoted(text)


def quoted(word: str) -> str:
    """A word as a string of Hydra's grammar that nothing resolves.

    Quotes are escaped there, and backslashes only before a quote or at the end; OmegaConf's `${` is escaped likewise.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", word)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"
