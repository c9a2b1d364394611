"""What differs between two runs, part by part. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from launcher.compare.facets import CONFIGURATION, Facets, shown
from launcher.runs.read import finite

OF_ITSELF = frozenset({"run_root", "name"})
"""Keys that differ between any two runs and mean nothing."""


@dataclass(frozen=True)
class Changed:
    """One key with its two values, None where a run does not have it; `change` is the relative change of numbers."""

    key: str
    one: Any
    other: Any

    @property
    def change(self) -> float | None:
        both = (self.one, self.other)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in both) or not self.one:
            return None
        return float(self.other / self.one - 1)


@dataclass(frozen=True)
class Difference:
    """By part: the keys that differ; and how many are the same."""

    parts: dict[str, list[Changed]] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return any(self.parts.values())

    def as_json(self) -> dict[str, Any]:
        """For `--json`: part → key → the two values; null for numbers that JSON has not."""
        return {
            part: {each.key: [_plain(each.one), _plain(each.other)] for each in rows}
            for part, rows in self.parts.items()
        }


def difference(one: Facets, other: Facets) -> Difference:
    """What differs, in the order in which the first has it."""
    parts: dict[str, list[Changed]] = {}
    same: dict[str, int] = {}
    for part in dict.fromkeys((*one, *other)):
        mine, theirs = one.get(part, {}), other.get(part, {})
        keys = [key for key in dict.fromkeys((*mine, *theirs)) if part != CONFIGURATION or key not in OF_ITSELF]
        rows = [Changed(key, mine.get(key), theirs.get(key)) for key in keys]
        parts[part] = [row for row in rows if not (_are_same(row) or _both_empty(row))]
        same[part] = len(rows) - len(parts[part])
    return Difference(parts, same)


def _are_same(row: Changed) -> bool:
    """Whether both values are equal, or both NaN."""
    return bool(row.one == row.other or (row.one != row.one and row.other != row.other))


def _plain(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def _both_empty(row: Changed) -> bool:
    return row.one in (None, "") and row.other in (None, "")


def rows_of(changed: list[Changed]) -> list[tuple[str, str, str, str]]:
    """Key, both values, and by how much a number changed."""
    return [
        (each.key, shown(each.one), shown(each.other), "" if each.change is None else f"{each.change:+.1%}")
        for each in changed
    ]
