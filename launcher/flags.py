"""Flags of the verbs: argparse, with Hydra's overrides and flags left over for `launcher.compose.compose`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

OVERRIDES_HELP = """\
configuration: key=value  +key=value  ~key  group=choice      every key: docs/reference.md
  {groups}
  -m key=1,2 …        run, plan, submit: a sweep, each combination of values a run of its own
  --config-dir DIR    a folder of your own with groups and files; wins over Muster's
  --cfg job           print the composed configuration    --hydra-help    Hydra's own flags
"""


NO_CACHE = "neither read nor write what is kept in your cache folder of models that no formula knows"

_collecting: list[Parser] | None = None


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, with examples kept as they are written."""

    def __init__(self, verb: str, about: str, examples: str, overrides: bool = False) -> None:
        self.examples = [line.strip() for line in examples.strip().splitlines()]
        self.overrides = overrides
        epilog = "examples:\n" + "\n".join("  " + line for line in self.examples)
        if overrides:
            epilog = OVERRIDES_HELP.format(groups=_groups()) + "\n" + epilog
        super().__init__(
            prog=f"muster {verb}",
            description=about,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"muster {verb} [flags] [key=value …]" if overrides else None,
        )

    def error(self, message: str) -> NoReturn:
        """A wrong flag: exit code 2, with the way to the help."""
        self.exit(2, f"{self.prog}: {message}\nSee: {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        """The help as text; while parsers are collected, the parser itself is what is wanted."""
        if _collecting is None:
            super().print_help(file)
        else:
            _collecting.append(self)


@contextmanager
def collected() -> Iterator[list[Parser]]:
    """While this lasts, `--help` hands over its parser instead of printing: `launcher.commands` makes a page of it."""
    global _collecting
    _collecting = []
    try:
        yield _collecting
    finally:
        _collecting = None


def _groups() -> str:
    """The shipped choices of each group, from the names of the files alone."""
    from importlib.resources import files

    lines = []
    for group in sorted(files("conf").iterdir(), key=lambda entry: entry.name):
        if group.is_dir() and not group.name.startswith(("_", ".")):
            names = sorted(entry.name[:-5] for entry in group.iterdir() if entry.name.endswith(".yaml"))
            names = [name for name in names if not name.startswith(("schema", "_"))]
            if names:
                lines.append(f"{group.name}=" + "|".join(names))
    return "\n  ".join(lines)
