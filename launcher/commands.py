"""docs/commands.md, made from the parsers of the verbs: `python -m launcher.commands > docs/commands.md`."""

from __future__ import annotations

import argparse
import contextlib
import importlib

from launcher.cli import GROUPS
from launcher.flags import Parser, collected

HEAD = """\
# Commands

Every verb and flag, as `muster VERB --help` says them. This page is generated:
`python -m launcher.commands > docs/commands.md`.

A RUN is a name, an id, a folder or a Slurm job id. Where a verb takes `key=value`, every key of the
[configuration reference](reference.md) may follow, in any order: `key=value`, `+key=value` (a key that a mapping does
not have yet), `~key` (leave out), `group=choice`. After `-m` a key of `run`, `plan` and `submit` may have several
values: each combination is a run of its own, see [sweeps](sweeps.md). `--config-dir DIR` names a folder of your own
with groups and files, `--cfg job` prints the composed configuration, `--hydra-help` Hydra's own flags. `--debug` shows
tracebacks.

| exit code | |
|---|---|
| 0 | done |
| 1 | something else failed |
| 2 | your configuration or command line |
| 3 | the scheduler |
| 4 | not found |
"""
ABOUT = {"start": "Start", "read": "Read", "steer": "Steer", "site": "Machine and site"}


def commands() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for group, verbs in GROUPS.items():
        parts.append(f"## {ABOUT[group]}\n")
        parts += [_section(parser) for verb in verbs for parser in parsers(verb)]
    return "\n".join(parts)


def parsers(verb: str) -> list[Parser]:
    """The verb's parser, and those of its actions."""
    module = importlib.import_module(f"launcher.verbs.{verb}")
    actions = getattr(module, "ACTIONS", {})
    words = [[], *([action] for action in (actions if isinstance(actions, dict) else ()))]
    found = []
    for argv in words:
        with collected() as asked, contextlib.suppress(SystemExit):
            module.run([*argv, "--help"])
        found += asked
    return found


def _section(parser: Parser) -> str:
    lines = [f"### {parser.prog}\n", _sentence(parser.description or ""), ""]
    lines += ["```text", " ".join(parser.format_usage().split()), "```", ""]
    shown = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    if shown:
        lines += ["| | |", "|---|---|", *(f"| {_name(action)} | {_help(parser, action)} |" for action in shown), ""]
    if any(parser.examples):
        lines += ["```bash", *parser.examples, "```", ""]
    return "\n".join(lines)


def _name(action: argparse.Action) -> str:
    """`-w`, `--watch`, `--rank N`, RUN."""
    if not action.option_strings:
        choices = "|".join(map(str, action.choices)) if action.choices else ""
        return f"`{choices or action.metavar or action.dest}`".replace("|", "\\|")
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return " ".join(f"`{option}{value}`" for option in action.option_strings).replace("|", "\\|")


def _value(action: argparse.Action) -> str:
    return "|".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest.upper())


def _help(parser: Parser, action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return " ".join(text.replace("|", "\\|").split())


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


if __name__ == "__main__":
    print(commands(), end="")
