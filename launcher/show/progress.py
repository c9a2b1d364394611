"""The live line of a run, drawn from what rank 0 appends to `metrics.jsonl` and `events.jsonl`.

`View` is the state and knows no terminal; `Progress` follows the files and draws: one bar on a terminal, plain lines
elsewhere. rich is imported only for the bar.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from conf.layout import RunFolder
from launcher.runs import evaluations
from launcher.runs.read import Follower, Line, number, read_tail
from launcher.show import units

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PLAIN_INTERVAL_S = 10.0
PACE_STEPS = 50
SILENT_S = 60.0
"""How often it is said of a phase that counts nothing that it goes on."""

NOTED_S = 5.0
PHASES = {
    "start": "starting the ranks",
    "prepare": "preparing data",
    "load": "loading model",
    "convert": "converting the checkpoint",
    "rehearsal": "rehearsing the longest batch",
    "train": "training",
    "evaluate": "evaluating",
    "answer": "answering",
    "save": "saving",
    "export": "exporting",
}

OFTEN = ("train", "evaluate", "answer", "save")
"""Phases that come again and again, without a line of their own."""


@dataclass
class View:
    """Where a run is, from the lines seen so far."""

    total_steps: int | None = None
    phase: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    part: str = ""
    began: float | None = None
    step: int = 0
    values: Line = field(default_factory=dict)
    pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_STEPS))

    def take_metrics(self, line: Line) -> None:
        """One line of metrics.jsonl."""
        step = line.get("step")
        if not isinstance(step, int):
            return
        self.values.update(line)
        if "train/loss" in line:
            if step <= self.step:
                self.pace.clear()
            self.step = step
            if isinstance(line.get("time"), int | float):
                self.pace.append((float(line["time"]), step))

    def take_event(self, line: Line) -> str:
        """One line of events.jsonl; what is worth a line of its own for a person, or nothing."""
        event = line.get("event")
        if event == "phase":
            return self._take_phase(line)
        if event == "attempt_started":
            self.pace.clear()
            self._enter("start", "", number(line.get("time")))
            self.done, self.total = None, None
            ranks = line.get("world_size", "?")
            return f"attempt {line.get('attempt', 0)}: {ranks} rank{'' if ranks == 1 else 's'}"
        return describe_event(line)

    def _take_phase(self, line: Line) -> str:
        before = self.phase
        self._enter(str(line.get("phase", "")), str(line.get("text") or ""), number(line.get("time")))
        self.done, self.total = line.get("done"), line.get("total")
        self.unit = str(line.get("unit", ""))
        if self.phase == "train" and isinstance(self.total, int) and self.unit in ("", "step", "steps"):
            self.total_steps = self.total
        return "" if self.phase in (before, *OFTEN) else PHASES.get(self.phase, self.phase)

    def _enter(self, phase: str, part: str, at: float | None) -> None:
        """Be in a part of a phase, since now where that is a new one."""
        if (phase, part) != (self.phase, self.part):
            self.phase, self.part, self.began = phase, part, at

    def lasting(self, now: float) -> str:
        """`, for 42 s`: how long a part that counts nothing has gone on, where that is worth a word."""
        counted = self.in_steps or self.total or self.began is None
        if counted or self.began is None or now - self.began < NOTED_S:
            return ""
        return f", for {units.duration(now - self.began)}"

    @property
    def in_steps(self) -> bool:
        """Whether the steps say how far the run is, rather than the phase's own count."""
        return self.phase in ("train", "evaluate", "save") and self.step > 0

    @property
    def fraction(self) -> tuple[int, int | None]:
        """Done and total of what is going on now."""
        if self.phase in ("train", "evaluate", "save"):
            return self.step, self.total_steps
        return self.done or 0, self.total

    def eta_s(self) -> float | None:
        """Seconds to the last step at the pace of the last lines; None before two of them."""
        if self.total_steps is None or len(self.pace) < 2:
            return None
        (first_time, first_step), (last_time, last_step) = self.pace[0], self.pace[-1]
        if last_step <= first_step:
            return None
        return (last_time - first_time) / (last_step - first_step) * max(0, self.total_steps - last_step)

    def text(self) -> str:
        """The line without its bar."""
        phase = PHASES.get(self.phase, self.phase or "starting")
        if not self.in_steps:
            return self._phase_text(phase)
        total = f"/{self.total_steps}" if self.total_steps else ""
        parts = [f"step {self.step}{total}", *metric_words(self.values)]
        eta = self.eta_s()
        if eta is not None:
            parts.append(f"ETA {units.duration(eta)}")
        return "  ".join(parts) if self.phase == "train" else "  ".join([phase, *parts])

    def _phase_text(self, phase: str) -> str:
        """A phase with what is done of it: `preparing data: tokenising train.jsonl, 42 %`, `exporting 3/9 tensors`."""
        if self.phase == "prepare" and self.unit:
            share = f", {self.done / self.total:.0%}" if self.total and self.done is not None else ""
            return f"{phase}: {last_name(self.unit)}{share}"
        amount = f" {self.done}" + (f"/{self.total}" if self.total else "") if self.done is not None else ""
        part = f": {self.part}" if self.part else ""
        return f"{phase}{part}{amount}{f' {self.unit}' if amount and self.unit else ''}"


def last_name(text: str) -> str:
    """A text with the last names of its paths alone: `tokenising /data/train.jsonl` → `tokenising train.jsonl`."""
    return " ".join(word.rpartition("/")[2] or word for word in text.split(" "))


def metric_words(values: Line) -> list[str]:
    """`loss 2.31`, `lr 1e-05`, … of the metrics that are there."""
    words = []
    for key, form in (
        ("train/loss", "loss {:.4f}"),
        ("train/learning_rate", "lr {:.3g}"),
        ("train/grad_norm", "norm {:.3g}"),
    ):
        value = number(values.get(key))
        if value is not None:
            words.append(form.format(value))
    speed = number(values.get("perf/tokens_per_second"))
    if speed is not None:
        words.append(f"{units.count(speed)} tokens/s")
    mfu = number(values.get("perf/mfu"))
    if mfu is not None:
        words.append(f"MFU {mfu:.1%}")
    return words


def describe_event(line: Line) -> str:
    """An event in words, where a person wants a line of it."""
    event = line.get("event")
    if event == "evaluation":
        split = "test" if line.get("split") == "test" else "evaluation"
        return f"{split} at step {line.get('step')}: {evaluations.in_words(evaluations.metrics(line))}"
    if event == "best_loaded":
        return f"best model: that of step {line.get('step')}"
    if event == "checkpoint":
        size, seconds = number(line.get("bytes")), number(line.get("seconds"))
        return f"checkpoint of step {line.get('step')}" + (
            f": {units.size(size)} in {seconds:.1f} s" if size is not None and seconds is not None else ""
        )
    if event == "exported":
        verified = "verified" if line.get("verified") else "NOT verified"
        return f"exported to {line.get('path')}, {verified}"
    if event == "warning":
        return f"warning: {line.get('text', '')}"
    if event in ("batch", "converted"):
        return str(line.get("text", ""))
    if event == "attempt_ended":
        said = ended_words(str(line.get("state", "")), str(line.get("reason", "")))
        return f"attempt {line.get('attempt', 0)} ended: {said}"
    return ""


def ended_words(state: str, reason: str) -> str:
    """How something ended and why, without saying a thing twice: `stopped`, `done: all steps are done`."""
    return state if not reason or (reason.endswith(state) and state != "done") else f"{state}: {reason}"


class Progress:
    """Follows a run's files and draws its view."""

    def __init__(self, folder: RunFolder, total_steps: int | None, out: TextIO | None = None) -> None:
        """Start at the end of what is there, so that a resumed run does not replay its past."""
        self.out = out or sys.stdout
        self.view = View(total_steps=total_steps)
        earlier = [line for line in read_tail(folder.metrics) if "train/loss" in line]
        if earlier:
            self.view.step = int(earlier[-1].get("step", 0))
        self._metrics = Follower(folder.metrics, from_end=True)
        self._events = Follower(folder.events, from_end=True)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._printed_at = self._said_at = 0.0
        self._printed = ""

    def __enter__(self) -> Progress:
        if self.out.isatty():
            self._start_bar()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self.view.in_steps and self.view.text() != self._printed:
            self._print_plain(force=True)

    def update(self) -> None:
        """Read what is new and draw it."""
        events, metrics = self._events.read(), self._metrics.read()
        for line in metrics:
            self.view.take_metrics(line)
        for line in events:
            text = self.view.take_event(line)
            if text:
                self.say(text)
        if self._bar is not None and self._task is not None:
            done, total = self.view.fraction
            text = self.view.text() + self.view.lasting(time.time())
            self._bar.update(self._task, completed=done, total=total or None, description=text)
        else:
            self._print_plain()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.out, flush=True)
            self._said_at = time.monotonic()

    def _print_plain(self, force: bool = False) -> None:
        """A plain line at most every ten seconds, so that a log of a long run stays short.

        What counts nothing says every minute that it goes on.
        """
        now, text = time.monotonic(), self.view.text()
        silent = now - (self._printed_at if self.view.in_steps else max(self._printed_at, self._said_at))
        if not force and (not self.view.phase or silent < PLAIN_INTERVAL_S or text == self._printed):
            lasting = self.view.lasting(time.time()) if silent >= SILENT_S else ""
            if not lasting:
                return
            text += lasting
        print(text, file=self.out, flush=True)
        self._printed_at, self._printed = now, self.view.text()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=self.out),
            refresh_per_second=4,
        )
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)
