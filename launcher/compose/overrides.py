"""What follows a verb: its own flags, and the words that are left for the configuration."""

from __future__ import annotations

import argparse
import re

REST = "--"
"""All that follows it belongs to a person's own program."""


def split(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own flags, and the words that are left for Hydra, in their order.

    What follows `--` becomes `train.arguments`.
    """
    own, rest = (argv[: argv.index(REST)], argv[argv.index(REST) + 1 :]) if REST in argv else (argv, [])
    flags, words = parser.parse_known_args(own)
    return flags, words + ([f"train.arguments=[{','.join(map(_quoted, rest))}]"] if rest else [])


def _quoted(word: str) -> str:
    """A word as a string of Hydra's grammar that nothing resolves.

    Quotes are escaped there, and backslashes only before a quote or at the end; OmegaConf's `${` is escaped likewise.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", word)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"
