"""Parameter names as transformers spells them, also inside an adapter, and patterns over them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from conf.outcome import Cause

_WRAPPING = re.compile(r"^base_model\.(model\.)?|\.base_layer(?=\.)|\.(modules_to_save\.default|original_module)(?=\.)")
_ADAPTER = re.compile(r"\.default(?=\.|$)")
NEAR = 4


class PatternError(Exception):
    """A pattern of the configuration matches no parameter."""

    cause = Cause.config


def plain_name(name: str) -> str:
    """`base_model.model.model.layers.0.q_proj.base_layer.weight` → `model.layers.0.q_proj.weight`."""
    return _ADAPTER.sub("", _WRAPPING.sub("", name))


def first_match(name: str, patterns: Iterable[str]) -> str | None:
    """The first pattern (`*`, `?`, `[…]`) that the whole name matches."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def require_matches(key: str, patterns: Iterable[str], names: Mapping[str, object] | Iterable[str]) -> None:
    """Each pattern matches at least one name.

    Raises:
        PatternError: one does not, with names that are near.
    """
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = ", ".join(near_names(pattern, known))
            raise PatternError(f"{key}: {pattern!r} matches none of the {len(known)} parameters; near: {near}")


def near_names(pattern: str, names: list[str]) -> list[str]:
    """Names most like a pattern, as a whole or in one of their parts."""
    wanted = pattern.strip("*?").replace("*", "").lower()

    def likeness(name: str) -> float:
        parts = [name, *name.split("."), name.rpartition(".")[0]]
        return max(difflib.SequenceMatcher(None, wanted, part.lower()).ratio() for part in parts)

    return sorted(names, key=likeness, reverse=True)[:NEAR]
