"""What an all-reduce over all ranks reaches, once at the start: the one figure that a slow link or switch shows in."""

from __future__ import annotations

import time

import msgspec
import torch

from conf.files import write_atomically
from conf.layout import Attempt
from conf.record import Device, Plan
from train.distributed import World
from train.metrics.journal import Journal

CPU_MIB, GPU_MIB = 4, 64
TURNS = 3
TOO_SLOW = 0.5
"""Share of the site's own figure below which it is a warning."""


def measure_all_reduce(plan: Plan, attempt: Attempt, world: World, journal: Journal) -> None:
    """Measure it and write it down; a collective. It takes milliseconds and draws no random number.

    The bandwidth is the tensor's size over the time of a turn (nccl-tests call it algbw), the best of `TURNS`.
    """
    health = plan.config.health
    if not health.check_nodes or plan.topology.nodes == 1:
        return
    mib = GPU_MIB if plan.topology.device is Device.gpu else CPU_MIB
    tensor = torch.ones(mib * 2**18, dtype=torch.float32, device=world.device)
    best = 0.0
    for turn in range(TURNS + 1):
        begun = time.perf_counter()
        world.sum_on_device(tensor)
        float(tensor[0])  # waits for the device
        if turn:  # the first one opens connections
            best = max(best, mib / (time.perf_counter() - begun))
        tensor.fill_(1.0)
    if not world.first:
        return
    content = {"mib": mib, "ranks": world.size, "nodes": plan.topology.nodes, "mib_s": round(best, 1)}
    attempt.all_reduce.parent.mkdir(exist_ok=True)
    mode = attempt.folder.stat().st_mode & 0o666
    write_atomically(attempt.all_reduce, msgspec.json.encode(content) + b"\n", mode)
    journal.event("all_reduce", **content)
    known = health.preflight.all_reduce_mib_s
    if known and best < TOO_SLOW * known:
        journal.warning(
            f"an all-reduce over all ranks reaches {best:.0f} MiB/s, less than half of this site's {known:g} "
            "(health.preflight.all_reduce_mib_s): a link or switch may be bad"
        )
