"""What follows a verb: its own flags, Hydra's flags, overrides; and the configurations that they give."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from conf.schema import RunConfig


def split(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own flags, and the words that are left for Hydra, in their order."""
    flags, words = parser.parse_known_args(argv)
    return flags, words


def each_config(words: list[str], act: Callable[[RunConfig], int]) -> int:
    """Call `act` with the configuration, with each one of a sweep (`-m`), or let Hydra's showing flags answer.

    All points of a sweep are composed before the first is acted on. Returns the highest exit code.

    Raises:
        ConfigurationError: with every problem of the command line and of each file used.
    """
    from launcher.compose.compose import compose
    from launcher.compose.hydra_main import hydra_flags, points, sort_words

    sorted_words = sort_words(words)
    if sorted_words.flags:
        return hydra_flags(words)
    if not sorted_words.sweep:
        return act(compose(sorted_words.overrides, sorted_words.config_dir))
    codes = [0]
    for point in points(sorted_words.overrides, sorted_words.config_dir):
        print(f"\n--- {' '.join(point.overrides)}", flush=True)
        codes.append(act(point.config))
    return max(codes)
