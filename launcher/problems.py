"""What can be wrong, in a form that can be shown: `Problem`, and the errors that carry problems and exit codes.

Every error that a person can cause is one of these; anything else is Muster's own mistake. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration.

    `key` is the full key, or a file and line; `value` what was given; `rule` what has to hold, with its numbers;
    `nearest` the nearest valid keys or values.
    """

    key: str
    value: str
    rule: str
    nearest: str = ""

    def __str__(self) -> str:
        given = f"{self.key}={self.value}" if self.value else self.key
        text = f"{given} {self.rule}" if given else self.rule
        return f"{text}; nearest: {self.nearest}" if self.nearest else text


class MusterError(Exception):
    """An error with a message for a person and the exit code of the command."""

    exit_code = 1


class ConfigurationError(MusterError):
    """All problems of a configuration at once."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        if count == 1:
            return str(self.problems[0])
        return "\n".join([f"{count} problems:", *(f"  {problem}" for problem in self.problems)])


class SchedulerError(MusterError):
    """The scheduler refused or could not be reached; its words are kept."""

    exit_code = 3


class NotFoundError(MusterError):
    """No such run."""

    exit_code = 4


def nearest(word: str, possible: Iterable[str], count: int = 3) -> str:
    """The most similar of `possible`, best first, joined by commas; empty where nothing is similar."""
    return ", ".join(get_close_matches(word, list(possible), n=count, cutoff=0.6))
