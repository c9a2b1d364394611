"""What W&B hears of an attempt whose rank 0 could not speak for itself any more: that it hung, crashed, lost a node.

`conclude` starts it as a process of its own, in bounded time, before the run ends or goes back into the queue.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from conf.layout import RunFolder
from conf.outcome import read_outcome
from conf.record import Plan, read_plan
from conf.schema import Tracker, TrackingMode
from train.tracking.alerts import Herald
from train.tracking.describe import run_arguments
from train.tracking.follow import Chronicle, sent_at
from train.tracking.mirror import Mirror
from train.tracking.sdk import Patience, end_service, open_run, unreachable, words_of
from train.tracking.story import Story

PATIENCE = Patience(reach_s=3, init_s=15, finish_s=10)
LONGEST_S = 45.0


def is_heard(plan: Plan) -> bool:
    """Whether there is a W&B run that Muster speaks for: a person's own program speaks for itself."""
    tracking = plan.config.tracking
    return tracking.name is Tracker.wandb and tracking.mode is TrackingMode.online and plan.script is None


def start_last_word(argv: list[str], attempt: int, goes_on: bool) -> None:
    """Run the verb `last-word` of `argv` and wait for it, at most `LONGEST_S`."""
    words = [*argv, str(attempt), *(["--goes-on"] if goes_on else [])]
    with contextlib.suppress(OSError):
        process = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def say_last_word(folder: RunFolder, attempt: int, goes_on: bool) -> int:
    """Send what an attempt left unsaid, and how it ended; the exit status."""
    plan = read_plan(folder.run_json)
    problem = unreachable(PATIENCE.reach_s)
    if problem is None:
        try:
            _say(folder, plan, attempt, goes_on)
        except Exception as error:
            problem = words_of(error)  # wandb raises errors of many kinds
        finally:
            end_service()
    if problem is not None:
        print(f"muster: W&B was not told how attempt {attempt} ended ({problem})", flush=True)
    return 0 if problem is None else 1


def _say(folder: RunFolder, plan: Plan, attempt: int, goes_on: bool) -> None:
    herald, story = Herald(), Story(sent_at(folder))
    mirror = Mirror(open_run("online", PATIENCE, **run_arguments(plan, folder, attempt), resume="allow"), plan, folder)
    for line in Chronicle(folder).read():
        if "event" not in line:
            story.hear_metrics(line)
            continue
        story.hear_event(line)
        alert = herald.hear(line)
        if alert is not None:
            mirror.tell(alert)
    if goes_on:
        mirror.mark_preempting()
    outcome = read_outcome(folder.outcome)
    mirror.finish(None if outcome is None else outcome.state, outcome, story)
