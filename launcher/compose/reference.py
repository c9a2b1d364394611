"""The reference page of every key and every shipped option, made from the schema and the files themselves.

`python -m launcher.compose.reference` prints `docs/reference.md`; a test holds the page to it.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from conf.schema import RunConfig
from launcher.compose.keys import GROUPS, Key, all_keys, keys, section_paths
from launcher.compose.layers import package_folder

HEAD = """# Reference

Every configuration key, from `conf/schema.py`, and every option that comes with Muster. This page is generated:
`python -m launcher.compose.reference > docs/reference.md`.

`muster plan key=value group=option …` shows what a configuration resolves to. Sections are groups of files too:
`model=tiny` takes `conf/model/tiny.yaml`, `model.init=random` sets one key of it.

Files are looked up in this order, later over earlier: Muster's own, the folder `$MUSTER_SITE`, `~/.config/muster`,
`--config-dir`, then the command line. Each folder may hold groups (`cluster/mysite.yaml`, `experiment/mine.yaml`).
The site's `site.yaml` sets keys of any section and may lock some: `locked: [cluster.account]`. A `defaults.yaml` in the
other two sets keys of any section for you.
"""


def reference() -> str:
    """The page, as Markdown."""
    parts = [HEAD, "## Run\n", _table([key for key in keys() if "." not in key.path])]
    hints = get_type_hints(RunConfig)
    for group in GROUPS:
        if group in hints:
            parts.append(f"## {group}\n\n{_about(hints[group])}\n")
        else:
            parts.append(
                f"## {group}\n\nSeveral groups and keys at once; the file starts with `# @package _global_`.\n"
            )
        parts.append(_options(group))
        if group in section_paths():
            parts.append(_table(keys(group)))
    return "\n".join(parts)


def describe(path: str) -> str:
    """The keys at or below `path` as plain text, for a terminal; empty where there is none."""
    return "\n\n".join(f"{key.path}  ({key.type_text}; {_shown(key.default)})\n  {key.doc}" for key in keys(path))


def _about(section: Any) -> str:
    return " ".join((section.__doc__ or "").split())


def _options(group: str) -> str:
    paths = sorted((package_folder() / group).glob("*.yaml"))
    rows = [f"| `{group}={path.stem}` | {_cell(summary(path))} |" for path in paths]
    return "\n".join(["| option | |", "|---|---|", *rows]) + "\n"


def summary(path: Path) -> str:
    """The sentences at the head of a file, without its examples."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.startswith("#  "):
            if lines:
                break
            continue
        if "@package" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines).removesuffix(":")


def _table(found: list[Key]) -> str:
    rows = [f"| `{key.path}` | {_cell(key.type_text)} | `{_shown(key.default)}` | {_cell(key.doc)} |" for key in found]
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return "''" if value == "" else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def undocumented() -> list[str]:
    """Keys and sections without documentation; a test wants none."""
    sections = [
        name for name, hint in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(hint) and not hint.__doc__
    ]
    return [*sections, *(path for path, key in all_keys().items() if not key.doc)]


if __name__ == "__main__":
    print(reference(), end="")
