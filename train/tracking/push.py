"""`muster push`: a run folder, replayed into its run on W&B: one row a step, the last attempt's values winning.

A replay writes the whole history anew, so that it may be repeated, and puts right what attempts mirrored twice.
"""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from conf.layout import RunFolder
from conf.metrics import Line, merge_steps
from conf.outcome import read_outcome
from conf.record import Plan, read_plan
from conf.schema import AlertKind
from train.tracking.alerts import Alert, Herald
from train.tracking.describe import run_arguments
from train.tracking.follow import Chronicle, Follower, sent_at
from train.tracking.mirror import Mirror, values_of
from train.tracking.sdk import Patience, end_service, open_run, unreachable, words_of
from train.tracking.story import Story

PATIENCE = Patience(finish_s=3600)
"""A push has nothing else to do than to wait for the server."""
LOOK_S = 2.0


def push(folder: RunFolder, follow: bool = False) -> int:
    """Replay a run into W&B; the exit status: 0 where all is there, else 1.

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
        self._news, self._system = Chronicle(folder), Follower(folder.system)
        self._figures: dict[int, dict[str, float]] = {}
        self._lines: list[Line] = []
        self._steps: dict[int, Line] = {}
        self._measured: list[Line] = []
        self._herald, self._story = Herald(), Story(sent_at(folder))
        self.sent: dict[int, dict[str, Any]] = {}
        attempts = [int(entry.name) for entry in folder.attempts.glob("*") if entry.name.isdigit()]
        # No resume: the rows that the server has are written over from the first on.
        run = open_run("online", PATIENCE, **run_arguments(plan, folder, max(attempts, default=0)))
        self._mirror = Mirror(run, plan, folder)
        self.url = self._mirror.url

    @property
    def is_outdated(self) -> bool:
        """Whether steps that were sent look otherwise by now."""
        return any(values != values_of(self._steps[step]) for step, values in self.sent.items())

    def send_complete(self) -> None:
        """Send the steps before the newest one, which may still get an evaluation."""
        self._read()
        self._send(max(self._steps, default=0) - 1)

    def send_rest(self) -> None:
        """Send every step that was not sent, and what was measured meanwhile."""
        self._read()
        self._send(max(self._steps, default=0))

    def finish(self) -> None:
        """Say how the run stands and wait until the server has everything."""
        outcome = read_outcome(self._folder.outcome)
        self._mirror.finish(None if outcome is None else outcome.state, outcome, self._story)

    def _read(self) -> None:
        """Take in what is new. Of several messages of a kind a person gets the newest."""
        alerts: dict[AlertKind, Alert] = {}
        for line in self._news.read():
            if "event" in line:
                self._story.hear_event(line)
                alert = self._herald.hear(line)
                if alert is not None:
                    alerts[alert.kind] = alert
            elif isinstance(line.get("step"), int):
                self._story.hear_metrics(line)
                self._figures[line["step"]] = self._story.values()
                self._lines.append(line)
        for alert in alerts.values():
            self._mirror.tell(alert)
        self._steps = merge_steps(self._lines)
        self._measured += self._system.read()

    def _send(self, last: int) -> None:
        """The rows up to a step: of each step its metrics, then what the nodes measured until the next one."""
        newest = max(self.sent, default=-1)
        new = [line for step, line in self._steps.items() if newest < step <= last]
        if not new:
            return
        measured = self._place_measured(newest, last)
        for line in new:
            step = int(line["step"])
            self.sent[step] = values_of(line)
            self._mirror.log_metrics(line, self._figures[step])
            self._mirror.log_before(step)
            for look in measured.get(step, []):
                self._mirror.log_system(look, step)

    def _place_measured(self, newest: int, last: int) -> dict[int, list[Line]]:
        """What the nodes measured, by the step after which it was."""
        made = [(float(line.get("time") or 0.0), int(line["step"])) for line in self._lines]
        times = [time for time, _ in made]
        placed: dict[int, list[Line]] = {}
        for look in self._measured:
            place = bisect_right(times, float(look.get("time") or 0.0))
            step = made[place - 1][1] if place else made[0][1]
            if newest < step <= last:
                placed.setdefault(step, []).append(look)
        return placed


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
