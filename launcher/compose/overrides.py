"""What follows a verb: its own flags, and the words that are left for the configuration."""

from __future__ import annotations

import argparse

from launcher.compose.grammar import quoted

REST = "--"
"""All that follows it belongs to a person's own program."""


def split(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own flags, and the words that are left for Hydra, in their order.

    What follows `--` becomes `train.arguments`.
    """
    own, rest = (argv[: argv.index(REST)], argv[argv.index(REST) + 1 :]) if REST in argv else (argv, [])
    flags, words = parser.parse_known_args(own)
    return flags, words + ([f"train.arguments=[{','.join(map(quoted, rest))}]"] if rest else [])
