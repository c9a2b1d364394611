"""How an answer shall be, and how it ended. Imports nothing heavy: the server speaks before torch is there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """How an answer shall be generated; None is the model's own way. `deadline` is a time of `time.monotonic`."""

    new_tokens: int
    deadline: float
    timeout_s: float
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stops: tuple[str, ...] = ()
    num_beams: int | None = None


@dataclass(frozen=True)
class Finish:
    """How an answer ended: `stop` or `length`, and the tokens that were read and written."""

    reason: str
    prompt_tokens: int
    completion_tokens: int
