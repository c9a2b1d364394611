"""What is measured between two lines of metrics.jsonl: loss, throughput, memory, the pace of the ranks.

Losses are added up on the device and read once a line. Rates count the useful tokens of all ranks, without padding, and
the time of the steps, without evaluations and checkpoints.
"""

from __future__ import annotations

import resource
import time

import torch
from torch import Tensor

from train.data.batches import Step
from train.distributed import World
from train.metrics.pace import Pace

GIB = 1 << 30


class Window:
    """Sums over the steps since the last line."""

    def __init__(self, world: World, operations_per_token: float, peak: float | None, pace: Pace):
        """`operations_per_token` and `peak` operations a second of one device give MFU; no peak, no MFU."""
        self._world = world
        self.pace = pace
        self._operations = operations_per_token
        self._peak = peak
        self._loss = torch.zeros((), dtype=torch.float64, device=world.device)
        self._of_step: list[Tensor] = []
        self._of_last: list[Tensor] = []
        self.begin()

    def begin(self) -> None:
        """Forget what was measured; the clock starts here."""
        self._loss.zero_()
        self._steps = self._targets = self._tokens = 0
        self._useful = self._data_s = self._outside_s = 0.0
        self._started = time.monotonic()

    def add_loss(self, loss: Tensor) -> None:
        """The summed loss of one of this rank's micro batches; does not wait for the device."""
        self._of_step.append(loss.detach())

    def drop_step(self) -> list[float]:
        """Forget the losses of a step that changed nothing; returns them, of this rank's micro batches; waits."""
        losses = [float(loss) for loss in self._of_step]
        self._of_step = []
        return losses

    def last_losses(self) -> list[float]:
        """The summed losses of the last step's micro batches on this rank; waits for the device."""
        return [float(loss) for loss in self._of_last]

    def add_step(self, step: Step, data_s: float) -> None:
        """A step that was made, and the seconds it waited for its data."""
        for loss in self._of_step:
            self._loss += loss
        self._of_last, self._of_step = self._of_step, []
        self._steps += 1
        self._targets += step.target_tokens
        self._tokens += step.tokens
        self._useful += step.useful_share
        self._data_s += data_s

    def leave_out(self, seconds: float) -> None:
        """Time inside the window that was not spent on steps."""
        self._outside_s += seconds

    def loss(self) -> float:
        """Mean loss over the target tokens of the window, all ranks; waits for the device; a collective."""
        total = self._world.sum_on_device(self._loss.clone())
        return float(total) / max(1, self._targets)

    def read(self) -> dict[str, float]:
        """The window as metrics, and begin the next one; waits for the device; a collective."""
        gathered = torch.zeros(1 + self._world.size, dtype=torch.float64, device=self._world.device)
        gathered[0] = self._loss
        gathered[1 + self._world.rank] = self.pace.take(self._world.device)
        total, *shares = self._world.sum_on_device(gathered).tolist()
        values = {"train/loss": total / max(1, self._targets)}
        seconds = max(time.monotonic() - self._started - self._outside_s, 1e-9)
        steps = max(1, self._steps)
        per_second = self._tokens / seconds
        values |= {
            "perf/tokens_per_second": per_second,
            "perf/tokens_per_second_per_gpu": per_second / self._world.size,
            "perf/step_time_s": seconds / steps,
            "perf/data_time_s": self._data_s / steps,
            "data/useful_share": self._useful / steps,
            **memory(self._world.device),
        }
        factor = self.pace.compare(shares, self._steps, seconds)
        if factor is not None:
            values["health/straggler_factor"] = factor
        if self._peak is not None:
            values["perf/mfu"] = per_second / self._world.size * self._operations / self._peak
        self.begin()
        return values


def memory(device: torch.device) -> dict[str, float]:
    """Memory of this rank in GiB: highest of the host process, and on a GPU what torch allocated and reserved."""
    values = {"mem/host_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)}
    if device.type == "cuda":
        values["mem/gpu_peak_gib"] = torch.cuda.max_memory_allocated(device) / GIB
        values["mem/gpu_reserved_gib"] = torch.cuda.memory_reserved(device) / GIB
    return values
