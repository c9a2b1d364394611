"""A configuration key: a dataclass field that carries its documentation."""

from __future__ import annotations

from dataclasses import field
from typing import Any

REQUIRED: Any = "???"
"""OmegaConf's mark for a key that a person has to give."""


def key(default: Any, doc: str) -> Any:
    """A dataclass field with its documentation; mutable defaults are copied for each instance."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata={"doc": doc})
    if isinstance(default, type):
        return field(default_factory=default, metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})
