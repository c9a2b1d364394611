"""What the server's refusals tell OpenAI's clients: which requests are worth sending again."""

from __future__ import annotations

from train.serve.errors import busy, ending, late, loading


def test_a_request_that_took_too_long_is_not_to_be_repeated() -> None:
    assert late(300).response().headers["x-should-retry"] == "false"
    for error in (busy(16), loading(), ending()):
        assert "x-should-retry" not in error.response().headers
