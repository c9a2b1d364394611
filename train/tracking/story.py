"""What a run's attempts add up to: how long it waited, which steps it made twice, how much of its time was useful.

A fold over the lines of events.jsonl and metrics.jsonl in their order. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

STEP_TIME = "perf/step_time_s"


class Story:
    """Hears events and metrics; `step` is the last one that was logged."""

    def __init__(self, sent: Sequence[float] = ()):
        """`sent` are the times at which jobs of the run were handed to a scheduler."""
        self.step = 0
        self.attempt = 0
        self._timed = 0
        """The last step whose time was told: lines of evaluations, between two of training, tell none."""
        self._timed_steps, self._useful_s = array("q"), array("d")
        """Those that count in the end, in their order, and the seconds of all steps up to each."""
        self._resumed: dict[int, int] = {}
        self._started: set[int] = set()
        self._reached = self._lost = 0
        self._began: float | None = None
        self._ended: float | None = None
        self._sent = sent
        self._waited_s = 0.0
        self._now = 0.0

    @property
    def newest(self) -> int:
        """The newest attempt that has started."""
        return max(self.attempt, *self._started, 0)

    def hear_event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl."""
        name, attempt, now = event.get("event"), int(event.get("attempt") or 0), float(event.get("time") or 0.0)
        self._now = max(self._now, now)
        if name == "attempt_started" and attempt not in self._started:
            self._started.add(attempt)
            self._waited_s += self._queued(now)
            self._began = self._began or now
            self._ended = None
        elif name == "resumed" and isinstance(event.get("step"), int):
            self._resumed[attempt] = int(event["step"])
        elif name in ("attempt_ended", "decision"):
            self._ended = now

    def hear_metrics(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; events that came before it are heard before it."""
        step, attempt, took = line.get("step"), int(line.get("attempt") or 0), line.get(STEP_TIME)
        if not isinstance(step, int):
            return
        self._now = max(self._now, float(line.get("time") or 0.0))
        if attempt > self.attempt:
            self._go_on(attempt)
        elif attempt < self.attempt:
            return  # a late word of an attempt that counts no more
        if isinstance(took, float | int) and step > self._timed:
            self._useful_s.append(self._seconds() + took * (step - self._timed))
            self._timed_steps.append(step)
            self._timed = step
        self.step = step
        self._reached = max(self._reached, step)

    def values(self) -> dict[str, float]:
        """The figures so far; goodput is the time of steps that count by all time since the first attempt began."""
        values: dict[str, float] = {
            "run/attempt": self.attempt,
            "run/lost_steps": self._lost,
            "run/queue_wait_s": round(self._waited_s, 3),
        }
        if self._began is not None and self._now > self._began:
            values["run/goodput"] = min(1.0, self._seconds() / (self._now - self._began))
        return values

    def totals(self, documents_per_step: int) -> dict[str, float]:
        """Hugging Face's figures of the whole training, from the steps that count."""
        seconds = self._seconds()
        if not seconds:
            return {}
        return {
            "train_runtime": round(seconds, 3),
            "train_steps_per_second": round(self.step / seconds, 3),
            "train_samples_per_second": round(self.step * documents_per_step / seconds, 3),
        }

    def _go_on(self, attempt: int) -> None:
        """A later attempt makes the steps after its checkpoint again."""
        first = self._resumed.get(attempt, 0)
        self._lost += max(0, self._reached - first)
        self._reached = self.step = self._timed = first
        counted = bisect_right(self._timed_steps, first)
        del self._timed_steps[counted:], self._useful_s[counted:]
        self.attempt = attempt

    def _seconds(self) -> float:
        """Of all steps that count."""
        return self._useful_s[-1] if self._useful_s else 0.0

    def _queued(self, started: float) -> float:
        """Seconds in the queue before an attempt: from the end of the one before, or from when it was sent later."""
        sent = max((time for time in self._sent if time <= started), default=None)
        if sent is None or (self._began is not None and self._ended is None):
            return 0.0
        return max(0.0, started - max(sent, self._ended or sent))
