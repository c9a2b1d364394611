"""Seconds of an optimizer step on a rank, by parts: products, memory, optimizer, ZeRO's communication, offload. Pure.

ZeRO's volumes are those of its paper (Rajbhandari et al. 2020, arXiv 1910.02054, section 7): Ψ weights are reduced and
gathered once each in stages 1 and 2; stage 3 gathers them for forward and for backward and reduces gradients, 3Ψ. What
comes with each micro batch comes `micro_batches` times: gradients in stages 2 and 3, weights in stage 3. hpZ (ZeRO++,
arXiv 2306.10209, section 3.2) takes the second gather from the ranks of its group. All of it is partly hidden behind
computing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from conf.record import Device
from launcher.plan.time.cost import Cost
from launcher.plan.time.documents import Step
from launcher.plan.time.machine import Machine

OPTIMIZER_BYTES = 34
"""Bytes that AdamW moves for an element: gradient, weight, two moments and the copy read, all but the first written."""

FORWARD_SHARE = 1 / 3
LATENCY_S = {Device.gpu: 30e-6, Device.cpu: 1e-3}
"""Of a collective on one node; each doubling of the nodes adds as much."""

LAYER_S = {Device.gpu: 0.6e-3, Device.cpu: 3e-3}
"""Host time of a layer's forward and backward pass: Python, launches of kernels. With ZeRO-3's hooks `HOOKS` times."""

HOOKS = 1.8
SMALL = {Device.gpu: 300.0, Device.cpu: 24.0}
"""Tokens of a micro batch at which matrix products reach half of what they can."""

COLLECTIVES = 3
"""Of ZeRO-3 for a layer and micro batch, once its weights are gathered in buckets."""


@dataclass(frozen=True)
class Way:
    """How a step is computed. `interval` of checkpointing is 0 where it is off; `group` ranks share hpZ's copy."""

    stage: int
    ranks: int
    per_node: int
    element: int
    interval: int = 0
    optimizer_on_host: bool = False
    weights_on_host: bool = False
    group: int = 1

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.per_node)


@dataclass(frozen=True)
class Grade:
    """How well a machine does: shares of what matrix products, memory and links could do, and how much of the
    communication hides behind computing."""

    products: float
    memory: float
    links: float
    hidden: float


GRADES = {
    Device.gpu: (Grade(0.80, 0.95, 0.95, 0.95), Grade(0.62, 0.75, 0.75, 0.7), Grade(0.40, 0.5, 0.4, 0.0)),
    Device.cpu: (Grade(1.60, 1.50, 1.50, 0.5), Grade(0.90, 0.75, 0.75, 0.0), Grade(0.25, 0.3, 0.3, 0.0)),
}
"""At best, as expected, at worst. 62 % of the peak in products is what large transformers reach on H100s and H200s."""


@dataclass(frozen=True)
class Seconds:
    """Seconds of a step by part; `communication` is what does not hide behind the rest."""

    products: float
    again: float
    memory: float
    waiting: float
    communication: float
    optimizer: float
    offload: float

    @property
    def total(self) -> float:
        return sum(
            (self.products, self.again, self.memory, self.waiting, self.communication, self.optimizer, self.offload)
        )


def seconds_of(cost: Cost, machine: Machine, way: Way, step: Step, grade: Grade) -> Seconds:
    """The parts of a step at one grade."""
    operations = cost.operations(step.computed, step.context, step.source)
    speed = machine.operations * grade.products * step.micro / (step.micro + SMALL[machine.device])
    products = operations / speed
    again = products * FORWARD_SHARE / way.interval if way.interval else 0.0
    repeated = 1 + FORWARD_SHARE / way.interval if way.interval else 1.0
    memory = (step.computed + step.source) * cost.moved * repeated / (machine.memory * grade.memory)
    busy = products + again + memory
    host = step.micro_batches * cost.layers * LAYER_S[machine.device] * (HOOKS if way.stage == 3 else 1.0) * repeated
    waiting = host if machine.device is Device.cpu else max(0.0, host - busy)
    moving = communication_s(cost, machine, way, step.micro_batches, grade)
    seen = max(moving - grade.hidden * (busy + waiting), (1 - grade.hidden) * moving)
    share = cost.trained / (way.ranks if way.stage else 1)
    optimizer = 0.0 if way.optimizer_on_host else OPTIMIZER_BYTES * share / (machine.memory * grade.memory)
    return Seconds(products, again, memory, waiting, seen, optimizer, offload_s(cost, machine, way, step, grade, share))


def communication_s(cost: Cost, machine: Machine, way: Way, micro_batches: int, grade: Grade) -> float:
    """Seconds of a step's collectives, were nothing else done meanwhile."""
    if way.ranks == 1:
        return 0.0
    weights, gradients = way.element * cost.weights, way.element * cost.trained
    once = Collective(machine, way, grade)
    if way.stage < 2:
        return once(gradients) + once(gradients)
    if way.stage == 2:
        return micro_batches * once(gradients) + once(gradients)
    second = Collective(machine, way, grade, way.group) if way.group > 1 else once
    starts = COLLECTIVES * cost.layers * _latency(machine, way)
    return micro_batches * (once(weights) + second(weights) + once(gradients) + starts)


class Collective:
    """Seconds to gather, or reduce and scatter, so many bytes over the ranks of a group: within a node and between."""

    def __init__(self, machine: Machine, way: Way, grade: Grade, group: int = 0):
        ranks = group or way.ranks
        near = min(way.per_node, ranks)
        nodes = -(-ranks // near)
        within = (near - 1) / near / (machine.peers * grade.links)
        between = (nodes - 1) / nodes / (machine.between * grade.links)
        self._each = max(within, between)
        self._start = _latency(machine, way)

    def __call__(self, size: float) -> float:
        return size * self._each + self._start


def _latency(machine: Machine, way: Way) -> float:
    return LATENCY_S[machine.device] * (1 + math.log2(way.nodes))


def offload_s(cost: Cost, machine: Machine, way: Way, step: Step, grade: Grade, share: float) -> float:
    """Seconds for states on the host: gradients down, updated weights up, the update by the node's cores; weights on
    their way to each gather."""
    link = machine.host * grade.links
    found = 0.0
    if way.optimizer_on_host:
        times = step.micro_batches if way.stage > 1 else 1
        found += way.element * share * (times + 1) / link
        found += OPTIMIZER_BYTES * share * min(way.per_node, way.ranks) / (machine.host_memory * grade.memory)
    if way.weights_on_host:
        found += 2 * step.micro_batches * way.element * cost.weights / way.ranks / link
    return found
