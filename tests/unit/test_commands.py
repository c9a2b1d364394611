"""The parsers behind the page of the commands; `test_reference` holds the page to them."""

from __future__ import annotations

import pytest

from launcher.cli import VERBS, main
from launcher.commands import parsers


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_flag_is_said(verb: str) -> None:
    found = parsers(verb)
    assert found[0].prog == f"muster {verb}"
    assert all(action.help for parser in found for action in parser._actions if action.option_strings)


def test_help_still_prints_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    parsers("status")
    assert main(["status", "--help"]) == 0
    assert "muster status" in capsys.readouterr().out
