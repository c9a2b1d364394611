"""The page of the commands is what the parsers say."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli import VERBS, main
from launcher.commands import commands, parsers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_the_page_is_what_the_parsers_say() -> None:
    assert PAGE.read_text() == commands(), "run: python -m launcher.commands > docs/commands.md"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_flag_is_said(verb: str) -> None:
    found = parsers(verb)
    assert found[0].prog == f"muster {verb}"
    assert all(action.help for parser in found for action in parser._actions if action.option_strings)


def test_help_still_prints_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    parsers("status")
    assert main(["status", "--help"]) == 0
    assert "muster status" in capsys.readouterr().out
