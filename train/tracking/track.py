"""A run on W&B while it trains: rank 0's thread that mirrors the files of the run folder.

The training thread writes files and nothing else, so a server that is away, slow or hanging costs it nothing;
`metrics.jsonl` has everything in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conf.layout import RunFolder
from conf.outcome import State, StopReason, ask_to_stop, read_outcome
from conf.record import Plan
from conf.schema import LogModel, TrackingMode
from conf.schema import Tracker as TrackerName
from train.pulse import PULSE
from train.tracking.alerts import Herald
from train.tracking.describe import run_arguments
from train.tracking.follow import Chronicle, Follower, sent_at
from train.tracking.mirror import GOOD_ENDS, Mirror
from train.tracking.sdk import Mode, Patience, end_service, open_run, unreachable, words_of
from train.tracking.story import Story

PATIENCE = Patience()
LOOK_S = 1.0
UPLOAD_S = 3600.0
"""Longest that the end of a run waits for a model to be sent."""
GOES_ON = (State.preempted, State.time_limit)


class Tracker:
    """The mirror of one attempt. `close` comes back within `Patience.close_s`; nothing here raises.

    One W&B run for the Muster run (`Plan.wandb_id`), resumed over every attempt.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        attempt: int,
        warn: Callable[[str], None],
        patience: Patience,
        opened: Callable[[str], None],
    ):
        """`warn` hears what went wrong, `opened` the address of the run's page."""
        self._plan = plan
        self._folder = folder
        self._attempt = attempt
        self._warn = warn
        self._opened = opened
        self._patience = _patience(plan, patience)
        self._online = plan.config.tracking.mode is TrackingMode.online
        self._state: State | None = None
        self._closing = threading.Event()
        self._herald, self._story = Herald(), Story(sent_at(folder))
        self._news = Chronicle(folder)
        self._system = Follower(folder.system, at_end=True)
        self._before = False
        self._thread = threading.Thread(target=self._mirror, name="wandb", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        plan: Plan,
        folder: RunFolder,
        attempt: int,
        warn: Callable[[str], None] = print,
        patience: Patience = PATIENCE,
        opened: Callable[[str], None] = lambda url: None,
    ) -> Tracker | None:
        """A tracker for one attempt, or None where `tracking=none`. To be called on rank 0, after any fork."""
        if plan.config.tracking.name is TrackerName.none:
            return None
        return cls(plan, folder, attempt, warn, patience, opened)

    def close(self, state: str) -> None:
        """Say how the attempt ended and hand over what is still waiting."""
        self._state = State(state)
        self._closing.set()
        uploads = self._state in GOOD_ENDS and self._plan.config.tracking.log_model is not LogModel.none
        patience_s = self._patience.finish_s + self._patience.close_s if uploads else self._patience.close_s
        deadline = time.monotonic() + patience_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(min(1.0, patience_s))
            PULSE.beat()  # an upload is no hang
        if self._thread.is_alive():
            self._warn(f"W&B did not finish within {patience_s:.0f} s; metrics.jsonl has everything, `muster push`")

    def _mirror(self) -> None:
        """The life of the thread: open a run, mirror what comes, finish."""
        try:
            mirror = Mirror(self._start(), self._plan, self._folder)
            if self._online:
                self._opened(mirror.url)
            while True:
                closing = self._closing.wait(LOOK_S)
                self._pass_on(mirror)
                if closing:
                    break
            if self._state in GOES_ON and self._online:
                mirror.mark_preempting()
            mirror.finish(self._state, self._outcome(), self._story)
            # Offline files are only flushed some time after `finish`, and this process is about to go.
            end_service()
        except Exception as error:
            self._warn(f"W&B stopped: {words_of(error)}; metrics.jsonl goes on")

    def _pass_on(self, mirror: Mirror) -> None:
        """What was written since the last time; of earlier attempts only messages that nobody has sent."""
        for line in self._news.read():
            own = line.get("attempt") == self._attempt
            if "event" in line:
                self._hear(mirror, line, own)
            else:
                self._story.hear_metrics(line)
                if own and isinstance(line.get("step"), int):
                    mirror.log_metrics(line, self._story.values())
        if self._before:
            mirror.log_before(0)
        for line in self._system.read():
            mirror.log_system(line, self._story.step)

    def _hear(self, mirror: Mirror, event: dict[str, Any], own: bool) -> None:
        self._story.hear_event(event)
        alert = self._herald.hear(event)
        if alert is not None and self._online:
            mirror.tell(alert)
        if own and event.get("event") == "checkpoint":
            self._send_saved(mirror, int(event["step"]))
        self._before |= own and event.get("event") == "evaluation" and event.get("step") == 0

    def _send_saved(self, mirror: Mirror, step: int) -> None:
        try:
            mirror.log_saved(step)
        except (OSError, ValueError) as error:
            # It was pruned while it was read, or could not be copied: the rest of the run goes on being mirrored.
            self._warn(f"the checkpoint of step {step} is not sent to W&B: {words_of(error)}")

    def _start(self) -> Any:
        """A wandb run: online where that is asked for and works, else offline in the run folder."""
        if self._online:
            problem = unreachable(self._patience.reach_s)
            if problem is None:
                try:
                    return self._open("online", resume="allow")
                except Exception as error:
                    # wandb raises errors of many kinds here, and none of them may reach training.
                    problem = words_of(error)
                    end_service()
            self._online = False
            self._warn(f"W&B cannot be reached ({problem}): this attempt is tracked offline")
        return self._open("offline")

    def _open(self, mode: Mode, **more: Any) -> Any:
        arguments = run_arguments(self._plan, self._folder, self._attempt)
        return open_run(mode, self._patience, self._stop, **arguments, **more)

    def _stop(self) -> None:
        """Somebody pressed the stop button on the run's page: what `muster stop` does."""
        if self._plan.config.tracking.stop_button:
            self._warn("the stop button was pressed on W&B")
            ask_to_stop(self._folder.stop, StopReason.stopped)

    def _outcome(self) -> Any:
        outcome = read_outcome(self._folder.outcome)
        return outcome if outcome is not None and outcome.attempt == self._attempt else None


def _patience(plan: Plan, patience: Patience) -> Patience:
    if plan.config.tracking.log_model is LogModel.none:
        return patience
    return replace(patience, finish_s=max(patience.finish_s, UPLOAD_S))
