"""Hydra's own flags: `--cfg job`, `--help`, `--hydra-help`, `--info`, shell completion.

`hydra.main` reads `sys.argv` and leaves through `SystemExit`; nobody else in Muster has to know.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from launcher.compose.compose import checked_request, prepare_hydra
from launcher.compose.layers import find_layers, package_folder
from launcher.compose.overrides_check import SWEEP
from launcher.problems import ConfigurationError, Problem

SHOWING = ("--cfg", "-c", "--hydra-help", "--info", "-i", "--shell-completion", "-sc", "--resolve", "--package", "-p")
"""Flags that show something and end. `--resolve` and `--package` come with `--cfg`."""

TAKES_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p")

REFUSED = {
    "--experimental-rerun": "unpickles a file, which can run any code; `muster resume RUN` goes on with a run",
    "--config-path": "would take Muster's own files away; use --config-dir",
    "-cp": "would take Muster's own files away; use --config-dir",
    "--config-name": "would take Muster's own root away; use experiment=<yours> with --config-dir",
    "-cn": "would take Muster's own root away; use experiment=<yours> with --config-dir",
    "--run": "is what every verb does; leave it out",
    "-r": "is what every verb does; leave it out",
}


@dataclass(frozen=True)
class Words:
    """A verb's words, sorted: overrides, Hydra's showing flags with their values, sweep, `--config-dir`."""

    overrides: list[str]
    flags: list[str]
    sweep: bool
    config_dir: str | None


def sort_words(words: list[str]) -> Words:
    """Sort what follows a verb into overrides and Hydra's flags.

    Raises:
        ConfigurationError: a flag that Muster refuses, or `--config-dir` without a folder.
    """
    overrides: list[str] = []
    flags: list[str] = []
    problems: list[Problem] = []
    sweep, config_dir = False, None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif name in ("--config-dir", "-cd"):
            config_dir = value if equals else (rest.pop(0) if rest else "")
        elif name in REFUSED:
            problems.append(Problem(name, "", REFUSED[name]))
            if name != "--run" and name != "-r" and not equals and rest:
                rest.pop(0)
        elif name in SWEEP:
            sweep = True
        elif name in SHOWING:
            flags.append(word)
            if name in TAKES_VALUE and not equals and rest and "=" not in rest[0]:
                flags.append(rest.pop(0))
        else:
            overrides.append(word)
    if config_dir == "":
        problems.append(Problem("--config-dir", "", "needs a folder"))
    if problems:
        raise ConfigurationError(problems)
    return Words(overrides, flags, sweep, config_dir)


def has_showing_flag(words: list[str]) -> bool:
    """Whether Hydra itself answers these words."""
    return any(word.partition("=")[0] in SHOWING for word in words)


def hydra_flags(words: list[str]) -> int:
    """Answer Hydra's showing flags on standard output; returns the exit code.

    Raises:
        ConfigurationError: the overrides beside the flags are wrong.
    """
    sorted_words = sort_words(words)
    completing = any(flag.partition("=")[0] in ("-sc", "--shell-completion") for flag in sorted_words.flags)
    if completing and _complete_verb():
        return 0
    if completing or "--hydra-help" in sorted_words.flags:
        prepare_hydra(find_layers(sorted_words.config_dir)[0])
        overrides = sorted_words.overrides
    else:
        request = checked_request(sorted_words.overrides, sorted_words.config_dir)
        prepare_hydra(request.layers)
        overrides = request.overrides
    return run_hydra([*sorted_words.flags, *overrides], lambda composed: None)


def run_hydra(words: list[str], task: Any) -> int:
    """Run `hydra.main` on `words`, as if they were the command line; the exit code."""
    import hydra

    def muster(composed: Any) -> None:
        task(composed)

    run = hydra.main(config_path=str(package_folder()), config_name="config", version_base="1.3")(muster)
    with _arguments(["muster", *words]):
        try:
            run()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


@contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = words
    try:
        yield
    finally:
        sys.argv = before


def _complete_verb() -> bool:
    """Print the verbs that fit where a verb is being typed; else take the verb out of the line that Hydra completes.

    Hydra knows `muster key=…`; a person types `muster run key=…`.
    """
    from launcher.cli import VERBS

    line = os.environ.get("COMP_LINE")
    if line is None:
        return False
    typing = re.fullmatch(r"\s*\S+\s+([a-z]*)", line)
    if typing:
        print(" ".join(verb for verb in VERBS if verb.startswith(typing[1])))
        return True
    os.environ["COMP_LINE"] = re.sub(r"^(\s*\S+)\s+[a-z]+(?=\s)", r"\1", line)
    return False
