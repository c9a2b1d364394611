"""`muster push`: the metrics of a run, replayed into its run on W&B: one row a step, the last attempt's values winning.

A replay writes the whole history anew, so that it may be repeated, and puts right what attempts mirrored twice.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from conf.layout import RunFolder
from conf.metrics import Line, merge_steps
from conf.outcome import Outcome, read_outcome
from conf.record import Plan, read_plan
from train.metrics.track import GOOD_ENDS, STEP, Patience, end_service, open_run, run_arguments, unreachable, words_of

PATIENCE = Patience(finish_s=600)
"""A push has nothing else to do than to wait for the server."""
LOOK_S = 2.0
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_OWN = ("step", "attempt", "time")


def push(folder: RunFolder, follow: bool = False) -> int:
    """Replay the metrics into W&B; the exit status: 0 where all is there, else 1.

    With `follow`, new steps are sent as they come until standard input ends; steps that a later attempt made again are
    put right by a second replay then.
    """
    plan = read_plan(folder.run_json)
    problem = unreachable(PATIENCE.reach_s)
    if problem is None:
        try:
            return _push(folder, plan, follow)
        except Exception as error:
            problem = words_of(error)  # wandb raises errors of many kinds
        finally:
            end_service()
    print(f"muster push: W&B cannot be reached ({problem}); metrics.jsonl has everything, push again", file=sys.stderr)
    return 1


def _push(folder: RunFolder, plan: Plan, follow: bool) -> int:
    replay = Replay(folder, plan)
    if follow:
        for _ in _until_input_ends():
            replay.send_complete()
    replay.send_rest()
    if replay.is_outdated:
        replay.finish()
        replay = Replay(folder, plan)
        replay.send_rest()
    replay.finish()
    print(f"{len(replay.sent)} steps of {plan.run_id} are on W&B: {replay.url}")
    return 0


class Replay:
    """One writing of the whole history. `sent` has what was sent of each step."""

    def __init__(self, folder: RunFolder, plan: Plan) -> None:
        self._folder = folder
        self._lines = Lines(folder.metrics)
        self.sent: dict[int, dict[str, Any]] = {}
        attempts = [int(entry.name) for entry in folder.attempts.glob("*") if entry.name.isdigit()]
        arguments = run_arguments(plan, folder, max(attempts, default=0))
        # No resume: the rows that the server has are written over from the first on.
        self._run = open_run("online", PATIENCE, **arguments)
        self.url = self._run.url

    @property
    def is_outdated(self) -> bool:
        """Whether steps that were sent look otherwise by now."""
        steps = self._lines.steps
        return any(values != _values(steps[step]) for step, values in self.sent.items())

    def send_complete(self) -> None:
        """Send the steps before the newest one, which may still get an evaluation."""
        self._lines.read()
        self._send(max(self._lines.steps, default=0) - 1)

    def send_rest(self) -> None:
        """Send every step that was not sent."""
        self._lines.read()
        self._send(max(self._lines.steps, default=0))

    def finish(self) -> None:
        """Say how the run stands and wait until the server has everything."""
        outcome = read_outcome(self._folder.outcome)
        if outcome is not None:
            self._run.summary.update(_summary(outcome))
        self._run.finish(exit_code=0 if outcome is None or outcome.state in GOOD_ENDS else 1)

    def _send(self, last: int) -> None:
        for step, line in self._lines.steps.items():
            if step <= last and step > max(self.sent, default=-1):
                self.sent[step] = _values(line)
                self._run.log({STEP: step, **self.sent[step]})


class Lines:
    """A file of metrics that may still grow, by step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._all: list[Line] = []
        self.steps: dict[int, Line] = {}

    def read(self) -> None:
        """Take in the complete lines that are new; one that is no JSON object is left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        for line in whole.splitlines():
            try:
                self._all.append(msgspec.json.decode(line, type=dict[str, Any]))
            except (msgspec.DecodeError, RecursionError):
                continue
        self.steps = merge_steps(self._all)


def _values(line: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B gets of a line: its metrics, words for what is not finite as numbers."""
    metrics = {name: value for name, value in line.items() if name not in _OWN}
    return {name: _NUMBERS.get(value, value) if isinstance(value, str) else value for name, value in metrics.items()}


def _summary(outcome: Outcome) -> dict[str, Any]:
    return {"state": outcome.state.value, "reason": outcome.reason, **outcome.metrics}


def _until_input_ends() -> Iterator[None]:
    """Now, and then every `LOOK_S` seconds until standard input ends."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait, name="input", daemon=True).start()
    yield
    while not ended.wait(LOOK_S):
        yield
