"""What follows a verb: its own flags, and the words that are left for the configuration."""

from __future__ import annotations

import argparse


def split(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own flags, and the words that are left for Hydra, in their order."""
    flags, words = parser.parse_known_args(argv)
    return flags, words
