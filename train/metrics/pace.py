"""Which rank is slow: the seconds that each spends on its own work, outside of collectives.

Ranks in a collective wait for the slowest, so all steps take equally long and only this tells them apart. A thread
looks twenty times a second at what the training thread is in, which costs nothing in the step and waits for nobody; on
GPUs, where the host runs ahead, NCCL's own times of the last collectives say it. The figures travel with the loss of a
line of metrics.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

from train.metrics.journal import Journal
from train.pulse import PULSE, TRAIN

INTERVAL_S = 0.05
LOOK_STEPS, LOOK_S = 15, 2.0
"""Least steps and seconds before ranks are compared."""
LONG_STEPS = 50
"""After so many steps one comparison is enough, else two in a row have to agree."""
LEAST_SHARE = 0.1
"""Of the time that is compared: less own work is taken as this much, since it slows nobody."""
FRAMES = 2
C10D = "torch/distributed/distributed_c10d.py"
DEEPSPEED = "/deepspeed/"


@dataclass(frozen=True)
class Slow:
    """A slow rank: its own work takes `factor` times as long as the median rank's."""

    rank: int
    factor: float


def slowest(own_s: Sequence[float], seconds: float) -> Slow:
    """The rank with most work of its own, from what each rank spent on it of the `seconds` compared."""
    rank = max(range(len(own_s)), key=own_s.__getitem__)
    least = LEAST_SHARE * seconds
    return Slow(rank, max(own_s[rank], least) / max(statistics.median_low(own_s), least))


class Pace:
    """This rank's own work, and on rank 0 the comparison of all. Used as a context manager around the steps."""

    def __init__(self, hosts: Sequence[str], factor: float, journal: Journal):
        """`hosts` by rank; a rank that is `factor` times slower than the median is warned of (0: none)."""
        self._hosts = hosts
        self._factor = factor
        self._journal = journal
        self._own_s = self._waited_s = 0.0
        self._sums = [0.0] * len(hosts)
        self._steps, self._seconds = 0, 0.0
        self._suspect: int | None = None
        self._warned: int | None = None
        self._trains = threading.get_ident()
        self._waits: dict[CodeType, bool] = {}
        self._leaving = threading.Event()

    def __enter__(self) -> Pace:
        self._trains = threading.get_ident()
        if self._factor > 0 and len(self._hosts) > 1:
            threading.Thread(target=self._watch, name="pace", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()

    def take(self, device: torch.device) -> float:
        """Share of the time since the last call that this rank spent on work of its own."""
        own_s, waited_s = self._own_s, self._waited_s
        self._own_s = self._waited_s = 0.0
        if device.type == "cuda":
            return _share_outside_nccl()
        return own_s / (own_s + waited_s) if own_s + waited_s else 1.0

    def compare(self, shares: Sequence[float], steps: int, seconds: float) -> float | None:
        """Take the shares of all ranks over some steps; the factor of the slowest where it is time to compare."""
        self._sums = [known + share * seconds for known, share in zip(self._sums, shares, strict=True)]
        self._steps += steps
        self._seconds += seconds
        if len(self._hosts) == 1 or self._factor <= 0 or self._steps < LOOK_STEPS or self._seconds < LOOK_S:
            return None
        slow = slowest(self._sums, self._seconds)
        if slow.factor < self._factor:
            self._suspect = self._warned = None
        elif slow.rank != self._warned and (slow.rank == self._suspect or self._steps >= LONG_STEPS):
            self._warned = slow.rank
            self._warn(slow)
        else:
            self._suspect = slow.rank
        self._sums = [0.0] * len(self._hosts)
        self._steps, self._seconds = 0, 0.0
        return slow.factor

    def _warn(self, slow: Slow) -> None:
        host, factor = self._hosts[slow.rank], round(slow.factor, 2)
        text = f"rank {slow.rank} on {host} is slow: its own work takes {factor} times as long as the median rank's"
        self._journal.event("warning", text=text, about="straggler", rank=slow.rank, host=host, factor=factor)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._leaving.wait(INTERVAL_S):
            frame = sys._current_frames().get(self._trains)
            now = time.monotonic()
            passed, before = now - before, now
            if PULSE.phase != TRAIN or frame is None:
                continue
            if self._is_waiting(frame):
                self._waited_s += passed
            else:
                self._own_s += passed

    def _is_waiting(self, frame: FrameType) -> bool:
        inner: FrameType | None = frame
        for _ in range(FRAMES):
            if inner is None:
                return False
            code = inner.f_code
            if code not in self._waits:
                file = code.co_filename
                self._waits[code] = file.endswith(C10D) or (code.co_name == "wait" and DEEPSPEED in file)
            if self._waits[code]:
                return True
            inner = inner.f_back
        return False


def _share_outside_nccl() -> float:
    """From the last collectives that NCCL timed (TORCH_NCCL_ENABLE_TIMING); 1 where there are none."""
    library: Any = sys.modules.get("torch._C._distributed_c10d")
    dump = getattr(library, "_dump_nccl_trace_json", None)
    entries = json.loads(dump(True, False)).get("entries", []) if dump else []
    timed = [entry for entry in entries if entry.get("duration_ms") is not None]
    if len(timed) < 2:
        return 1.0
    span_ms = (timed[-1]["time_created_ns"] - timed[0]["time_created_ns"]) / 1e6
    waited_ms = sum(entry["duration_ms"] for entry in timed[:-1])
    return float(min(1.0, max(0.0, 1.0 - waited_ms / max(span_ms, 1e-9))))
