"""What a run's attempts add up to: how long it waited, which steps it made twice, how much of its time was useful.

A fold over the lines of events.jsonl and metrics.jsonl in their order. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STEP_TIME = "perf/step_time_s"


class Story:
    """Hears events and metrics; `step` is the last one that was logged."""

    def __init__(self, sent: float | None = None):
        """`sent` is when the run was first handed to a scheduler."""
        self.step = 0
        self.attempt = 0
        self._useful_s: dict[int, float] = {}
        """Seconds of the steps up to each logged one, of those that count in the end."""
        self._resumed: dict[int, int] = {}
        self._started: set[int] = set()
        self._reached = self._lost = 0
        self._began: float | None = None
        self._idle_since = sent
        self._waited_s = 0.0
        self._now = 0.0

    def hear_event(self, event: Mapping[str, Any]) -> None:
        """A line of events.jsonl."""
        name, attempt, now = event.get("event"), int(event.get("attempt") or 0), float(event.get("time") or 0.0)
        self._now = max(self._now, now)
        if name == "attempt_started" and attempt not in self._started:
            self._started.add(attempt)
            if self._idle_since is not None:
                self._waited_s += max(0.0, now - self._idle_since)
            self._began = self._began or now
            self._idle_since = None
        elif name == "resumed" and isinstance(event.get("step"), int):
            self._resumed[attempt] = int(event["step"])
        elif name in ("attempt_ended", "decision"):
            self._idle_since = now

    def hear_metrics(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; events that came before it are heard before it."""
        step, attempt, took = line.get("step"), int(line.get("attempt") or 0), line.get(STEP_TIME)
        if not isinstance(step, int):
            return
        self._now = max(self._now, float(line.get("time") or 0.0))
        if attempt > self.attempt:
            self._go_on(attempt)
        if isinstance(took, float | int):
            self._useful_s[step] = took * max(0, step - self.step)
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
            values["run/goodput"] = min(1.0, sum(self._useful_s.values()) / (self._now - self._began))
        return values

    def totals(self, documents_per_step: int) -> dict[str, float]:
        """Hugging Face's figures of the whole training, from the steps that count."""
        seconds = sum(self._useful_s.values())
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
        self._reached = self.step = first
        self._useful_s = {step: seconds for step, seconds in self._useful_s.items() if step <= first}
        self.attempt = attempt
