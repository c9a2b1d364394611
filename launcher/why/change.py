"""A change that may help: a key, its present value, the nearest value that is better, and what that does."""

from __future__ import annotations

from dataclasses import dataclass

from conf.outcome import Failure, State
from conf.record import Plan


@dataclass(frozen=True)
class Change:
    """`key` from `now` to `to`. Without a key only a fact, said in `effect`."""

    effect: str
    key: str = ""
    now: str = ""
    to: str = ""


@dataclass(frozen=True)
class Case:
    """What a remedy looks at: the plan, the first failure, and what the run's files say.

    `save_s` are the seconds of the longest save, `lost_steps` the steps done after the newest checkpoint, `saved` the
    steps of the checkpoints that are there, `in_data_step` whether the data step failed.
    """

    plan: Plan
    failure: Failure | None
    state: State
    words: str
    saved: tuple[int, ...] = ()
    save_s: float | None = None
    lost_steps: int = 0
    in_data_step: bool = False
