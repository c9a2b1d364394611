"""What the plan predicted beside what is measured: memory after the first step, a step's time at the end.

Both go to log and events.jsonl, the memory to metrics.jsonl too, and both to the ledger by which the next plans of this
site are corrected.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from conf.estimate import Estimate, Need
from conf.gpus import name_of
from conf.measured import Measured, add_measured, describe
from conf.record import Device, Plan
from train.distributed import World
from train.metrics.journal import Journal

GIB = 1 << 30
LEAST_STEPS = 5
"""Steps from which on their time tells anything."""


@dataclass
class Truth:
    """The measured figures of one attempt, on every rank; rank 0 tells of them."""

    plan: Plan
    world: World
    journal: Journal
    memory: int = 0
    _step_s: list[float] = field(default_factory=list)
    _news: dict[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether as many ranks met as the plan is for."""
        return self.world.size == self.plan.topology.world_size

    def measure_memory(self) -> None:
        """Compare the highest memory so far with the plan. A collective."""
        self.memory = highest(self.world, self.plan.topology.ranks_per_node)
        expected = expected_memory(self.plan.memory, self.plan.topology.device)
        if expected is None or not self.counts:
            return
        likely, low, high = expected
        whose = "a rank's GPU" if self.plan.topology.device is Device.gpu else "a node's ranks"
        ratio = self.memory / likely
        text = (
            f"memory of {whose}: {gib(self.memory)} measured, {gib(likely)} ({gib(low)} to {gib(high)}) predicted"
            f", ×{ratio:.2f}"
        )
        values = {"measured": self.memory, "predicted": likely, "low": low, "high": high}
        if self.world.device.type == "cuda":
            values["reserved"] = torch.cuda.max_memory_reserved(self.world.device)
        self._say("memory_measured", text, **values)
        self._news = {"plan/memory_measured_gib": self.memory / GIB, "plan/memory_predicted_gib": likely / GIB}

    def hear(self, values: Mapping[str, float]) -> dict[str, float]:
        """Take the time of a step from a line of metrics; what the line gets that was not told yet."""
        self._step_s.append(values["perf/step_time_s"])
        news, self._news = self._news, {}
        return news

    def step_s(self) -> float | None:
        """The median time of a step, without the first line, which compiles and allocates; None while too few."""
        later = self._step_s[1:]
        return statistics.median(later) if len(later) >= LEAST_STEPS else None

    def finish(self) -> None:
        """Compare the time of a step, and note the run in the ledger. A collective."""
        self.memory = max(self.memory, highest(self.world, self.plan.topology.ranks_per_node))
        took, expected = self.step_s(), self.plan.time
        if took is not None and expected is not None and self.counts:
            span, ratio = expected.step, took / expected.step.likely
            text = (
                f"a step: {took:.3g} s measured, {span.likely:.3g} s ({span.low:.3g} to {span.high:.3g}) predicted"
                f", ×{ratio:.2f}"
            )
            self._say("time_measured", text, measured=took, predicted=span.likely, low=span.low, high=span.high)
        if self.world.first and self.counts and took is not None:
            self._note(took)

    def _note(self, took: float) -> None:
        """Leave what was measured for the next plans of this site."""
        folder = self.plan.config.cluster.measurements
        if not folder:
            return
        record = record_of(self.plan, self.world.device)
        formula = self.plan.time.formula_step_s if self.plan.time else 0.0
        measured = replace(record, memory=self.memory, predicted_step_s=formula, step_s=took, time=time.time())
        try:
            add_measured(Path(folder), measured)
        except OSError as error:
            self.journal.event("measurements_not_kept", text=f"{folder}: {error}")

    def _say(self, event: str, text: str, **values: float) -> None:
        self.journal.event(event, text=text, **values)
        if self.world.first:
            print(text, flush=True)


def highest(world: World, ranks_per_node: int) -> int:
    """Bytes at the highest: of a rank's GPU as torch allocated it, the fullest rank's; without GPUs what the processes
    of a node's ranks held together, the fullest node's. A collective."""
    if world.device.type == "cuda":
        return max(world.gather(torch.cuda.max_memory_allocated(world.device)))
    held = world.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
    return max(sum(held[start : start + ranks_per_node]) for start in range(0, world.size, ranks_per_node))


def expected_memory(estimate: Estimate | None, device: Device) -> tuple[int, int, int] | None:
    """Likely, low and high bytes of what `highest` measures; None where the plan does not know."""
    need = _need(estimate, device)
    if need is None:
        return None
    sums = [moment.measurable() for moment in need.moments]
    return max(likely for likely, _, _ in sums), max(low for _, low, _ in sums), max(high for _, _, high in sums)


def _need(estimate: Estimate | None, device: Device) -> Need | None:
    if estimate is None:
        return None
    return estimate.device if device is Device.gpu else estimate.host


def record_of(plan: Plan, device: torch.device) -> Measured:
    """The run as the ledger describes it, with what its formulas alone predicted."""
    topology = plan.topology
    gpu = topology.device is Device.gpu
    name = name_of(torch.cuda.get_device_name(device)) if gpu else f"cpu-{topology.threads_per_rank}"
    need = _need(plan.memory, topology.device)
    formula = max((moment.measurable(corrected=False)[0] for moment in need.moments), default=0) if need else 0
    record = describe(plan.config, name, plan.model_type, plan.packing)
    return replace(
        record,
        nodes=topology.nodes,
        ranks=topology.world_size,
        parameters=plan.parameters or 0,
        predicted_memory=formula,
        run=plan.run_id,
    )


def gib(amount: float) -> str:
    """`38.1 GiB`."""
    return f"{amount / GIB:.3g} GiB"
