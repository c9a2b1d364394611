"""Memory of a node's host: what its ranks are as processes, what is offloaded, loading, saving, readers of data."""

from __future__ import annotations

from collections.abc import Mapping

from conf.estimate import Moment, Term
from conf.record import Device
from conf.schema import RunConfig
from launcher.facts.facts import Facts
from launcher.plan.memory.held import Held
from launcher.plan.memory.states import FP32, IDLE, Part, total
from launcher.plan.topology import partition_of
from slurm import memory

GIB = 1 << 30
PROCESS = {Device.cpu: (0.4, 0.6, 1.0), Device.gpu: (1.0, 2.0, 3.5)}
"""GiB of a rank before it has a model: Python, torch, transformers and DeepSpeed; on GPUs CUDA's host side as well
(resident size, of which library pages are shared between ranks: hence the low end)."""

AGENT = (0.3, 0.6, 1.2)
LOADING = 130 << 20
"""Bytes above its share that a rank takes while transformers loads a model sharded or straight onto a GPU."""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def host_moments(
    config: RunConfig, held: Held, parts: list[Part], ranks_per_node: int, device: Device, working: Term | None
) -> list[Moment]:
    """What a node's host holds while it loads, trains and saves.

    Args:
        working: on CPUs, activations and what else the device needs beside states, of one rank.
    """
    base = [
        _processes("processes", PROCESS[device], ranks_per_node, f"{ranks_per_node} ranks with their libraries"),
        _processes("agent", AGENT, 1, "the node's agent, data preparation"),
    ]
    states = int(ranks_per_node * total(parts, IDLE, None if device is Device.cpu else True))
    mine = [Term("states", states, states, _pinned(states, device), f"{ranks_per_node} ranks", "weights")]
    if working is not None:
        mine.append(_times(working, ranks_per_node))
    copy = ranks_per_node * checkpoint_share(held, parts)
    saving = Term("copy to save", 0, 0, copy if config.checkpoint.async_save else copy // 4, "checkpoint.async_save")
    load = ranks_per_node * LOADING
    loading = Term("loading", load, load // 2, 2 * load + held.element * held.largest_of_all, "130 MiB a rank")
    return [
        Moment("load", [*base, *(mine if states else []), loading]),
        Moment("train", [*base, *(mine if states or working else [])]),
        Moment("save", [*base, *(mine if states or working else []), saving]),
    ]


def _processes(name: str, band: tuple[float, float, float], count: int, how: str) -> Term:
    low, likely, high = (int(count * gib * GIB) for gib in band)
    return Term(name, likely, low, high, how)


def _pinned(size: int, device: Device) -> int:
    """Pinned buffers are rounded up to a power of two (ATen/core/CachingHostAllocator.h): twice as much at most."""
    return size if device is Device.cpu else 2 * size


def _times(term: Term, count: int) -> Term:
    return Term(term.name, count * term.likely, count * term.low, count * term.high, term.how, term.kind)


def checkpoint_share(held: Held, parts: list[Part]) -> int:
    """Bytes of the files of one rank: its optimizer states, and what it holds of the trained weights."""
    states = sum(part.size for part in parts if part.kind == "optimizer")
    weights = sum(part.size for part in parts if part.name == "weights")
    trained = held.trainable / max(1, held.trainable + held.still)
    return int(states + weights * trained)


def checkpoint_bytes(held: Held, stage: int) -> int:
    """Bytes of a whole checkpoint: trained weights, moments, and the fp32 copy where there is one, which in stage 3 is
    all that is kept of the weights."""
    copy = FP32 if stage > 0 or held.element != FP32 else 0
    weights = held.element if stage < 3 else 0
    return held.trainable * (weights + 2 * FP32 + copy)


def host_capacity(config: RunConfig, facts: Facts) -> tuple[int | None, str]:
    """Bytes of a node's host memory that the job gets, and who says so."""
    given = memory.FORM.fullmatch(config.cluster.mem or "")
    if given and int(given[1]):
        return int(given[1]) * _UNITS[(given[2] or "M").upper()], "cluster.mem"
    if config.cluster.kind.value == "local":
        return int(facts.memory_gib * GIB) or None, "this machine"
    partition = partition_of(config.cluster, facts)
    if partition and partition.most_mem_mib != 0 and (given or config.cluster.exclusive):
        return None, f"nodes of partition {partition.name} differ: give cluster.mem"
    if partition and partition.mem_mib_per_node and (given or config.cluster.exclusive):
        return partition.mem_mib_per_node << 20, f"a node of partition {partition.name}"
    return None, "set cluster.mem"


def disk_terms(
    config: RunConfig, held: Held, stage: int, whole_weights: int, data: int, steps: int | None = None
) -> list[Term]:
    """Bytes that a run writes: checkpoints (one more than is kept while the next is written), export, data."""
    one = checkpoint_bytes(held, stage)
    kept = config.checkpoint.save_total_limit + 1 + config.train.load_best_model_at_end
    every = config.checkpoint.save_steps
    if every == 0 or steps is not None:
        kept = min(kept, 1 if every == 0 else max(1, -(-(steps or 0) // every)))
    checkpoints = Term("checkpoints", kept * one, one, kept * one, f"{kept} of {_gib(one)}", "optimizer")
    written = 0 if config.checkpoint.export.value == "never" else whole_weights
    copies = 2 if config.method.peft and config.method.merge else 1
    export = Term("export", written, 0, copies * written, "Hugging Face weights", "weights")
    cache = Term("prepared data", 2 * data, data, 4 * data, "tokens of the training data", "other")
    return [checkpoints, *([export] if written else []), *([cache] if data else [])]


def _gib(amount: float) -> str:
    from launcher.show.units import size

    return size(amount)


def data_bytes(files: Mapping[str, object]) -> int:
    """Bytes of the data files that were seen."""
    return sum(int(getattr(file, "size", 0) or 0) for file in files.values())
