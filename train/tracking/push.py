"""`muster push`: a run folder, replayed into its run on W&B: one row a step, the last attempt's values winning.

A replay writes the whole history anew, so that it may be repeated, and puts right what attempts mirrored twice.
"""

from __future__ import annotations

import sys
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from conf.layout import RunFolder
from conf.metrics import Line, Steps
from conf.outcome import read_outcome
from conf.record import Plan, read_plan
from conf.schema import AlertKind
from train.tracking.alerts import Alert, Herald
from train.tracking.describe import run_arguments
from train.tracking.follow import Chronicle, Follower, sent_at
from train.tracking.mirror import Mirror
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
    print(f"{replay.sent} steps of {plan.run_id} are on W&B: {replay.url}")
    return 0


class Replay:
    """One writing of the whole history.

    `sent` counts the steps that were sent; only of the others the lines are kept. `is_outdated` says whether lines of
    steps that were sent came afterwards.
    """

    def __init__(self, folder: RunFolder, plan: Plan) -> None:
        self._folder = folder
        self._news, self._system = Chronicle(folder), Follower(folder.system)
        self._steps = Steps()
        self._made, self._made_at = array("q"), array("d")  # the step of each line, and when it was made
        self._measured: list[Line] = []
        self._newest = -1
        self.sent = 0
        self.is_outdated = False
        self._herald, self._story = Herald(), Story(sent_at(folder))
        attempts = [int(entry.name) for entry in folder.attempts.glob("*") if entry.name.isdigit()]
        # No resume: the rows that the server has are written over from the first on.
        run = open_run("online", PATIENCE, **run_arguments(plan, folder, max(attempts, default=0)))
        self._mirror = Mirror(run, plan, folder)
        self.url = self._mirror.url

    def send_complete(self) -> None:
        """Send the steps before the newest one, which may still get an evaluation."""
        self._read()
        self._send(max(self._steps.lines, default=0) - 1)

    def send_rest(self) -> None:
        """Send every step that was not sent, and what was measured meanwhile."""
        self._read()
        self._send(max(self._steps.lines, default=0))

    def finish(self) -> None:
        """Say how the run stands and wait until the server has everything."""
        outcome = read_outcome(self._folder.outcome)
        if outcome is not None and outcome.attempt < self._story.newest:
            outcome = None  # of an attempt before the one that runs
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
                self.is_outdated |= line["step"] <= self._newest
                self._steps.take({**line, **self._story.values()})
                self._made.append(line["step"])
                self._made_at.append(float(line.get("time") or 0.0))
        for alert in alerts.values():
            self._mirror.tell(alert)
        self._measured += self._system.read()

    def _send(self, last: int) -> None:
        """The rows up to a step: of each step its metrics, then what the nodes measured until the next one."""
        new = sorted(step for step in self._steps.lines if self._newest < step <= last)
        if not new:
            return
        measured = self._place_measured(last)
        for step in new:
            self._mirror.log_metrics(self._steps.lines.pop(step), {})
            self._mirror.log_before(step)
            for look in measured.get(step, []):
                self._mirror.log_system(look, step)
        self.sent += len(new)
        self._newest = new[-1]

    def _place_measured(self, last: int) -> dict[int, list[Line]]:
        """What the nodes measured up to a step, by the step after which it was; the rest stays for later."""
        placed: dict[int, list[Line]] = {}
        later: list[Line] = []
        for look in self._measured:
            place = bisect_right(self._made_at, float(look.get("time") or 0.0))
            step = self._made[max(0, place - 1)]
            (placed.setdefault(step, []) if step <= last else later).append(look)
        self._measured = later
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
