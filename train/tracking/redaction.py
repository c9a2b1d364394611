"""Taking secrets out of a configuration before it leaves the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET_WORDS = (
    r"(?:token|secrets?|passw(?:or)?ds?|passphrase|credentials?|auth(?:orization)?"
    r"|(?:api|access|private|secret)[_-]?keys?)"
)
_SECRET_NAME = re.compile(rf"(?:^|_|-){_SECRET_WORDS}(?:$|_|-)", re.IGNORECASE)
# `max_tokens` and `author` are no secrets: what follows the word is another one, or nothing.
_NAME = rf"(?<![\w-])[\w-]*{_SECRET_WORDS}(?![a-z])[\w-]*+"
_LEAD = rf"{_NAME}[\"']?\s*[=:]\s*|(?=--){_NAME}\s+|\bBearer\s+"
_VALUE = r"(?:(?:Bearer|Basic)\s+)?(?:\"[^\"]*\"|'[^']*'|\S+)"
_GIVEN = re.compile(rf"({_LEAD}){_VALUE}", re.IGNORECASE)
"""What says that a secret follows, and the secret: `TOKEN=…`, `Authorization: Bearer …`, `--token …`."""
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SHORTEST = 8
"""Shorter values of secret variables are too likely to be ordinary words."""


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name holds a secret: `HF_TOKEN` does, `tokenizer_vocab_size` does not."""
    return _SECRET_NAME.search(name) is not None


def redacted(value: Any, environment: Mapping[str, str]) -> Any:
    """`value` (built-in types) without secrets: under secret names, in assignments, in URLs, or equal to a secret one
    of the variables in `environment` holds."""
    known = [text for name, text in environment.items() if is_secret_name(name) and len(text) >= _SHORTEST]
    return _redacted(value, known)


def _redacted(value: Any, known: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if is_secret_name(str(name)) and _is_filled(item) else _redacted(item, known)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(item, known) for item in value]
    if isinstance(value, str):
        for text in known:
            value = value.replace(text, HIDDEN)
        return _GIVEN.sub(rf"\1{HIDDEN}", _URL_LOGIN.sub(HIDDEN, value))
    return value


def _is_filled(item: Any) -> bool:
    return isinstance(item, str | bytes) and bool(item)
