"""This rank among the others: joining them, and the small agreements between them.

Two process groups: the default one moves tensors of the model (NCCL on GPUs, gloo on CPUs), `control` moves a few
numbers over gloo, so that an agreement never waits for the GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from conf.outcome import Cause
from conf.record import Device, Topology
from train.engine import start_distributed

T = TypeVar("T")


class NoDeviceError(Exception):
    """The plan wants a GPU for each rank of a node, and this rank sees none for itself."""

    cause = Cause.config


@dataclass(frozen=True)
class World:
    """A rank's place. `control` is a gloo group of all ranks; `timeout` is the longest wait in one collective."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    control: dist.ProcessGroup
    timeout: timedelta

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes what is written once."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Each value added up over all ranks, in fp64; a collective."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return [float(value) for value in tensor]

    def sum_on_device(self, tensor: Tensor) -> Tensor:
        """A tensor on the device added up over all ranks, in place; a collective."""
        dist.all_reduce(tensor)
        return tensor

    def all_true(self, flag: bool) -> bool:
        """Whether `flag` is true on every rank; a collective."""
        return self.sum([0.0 if flag else 1.0])[0] == 0.0

    def gather(self, value: T) -> list[T]:
        """`value` of every rank, in order of ranks; a collective. It travels pickled: keep it small."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return cast("list[T]", values)

    def exchange(self) -> Callable[[T], list[T]]:
        """`gather` over connections of its own, for a thread: what ranks say there meets nothing else; a collective."""
        group = _control_group(self.timeout)

        def gathered(value: T) -> list[T]:
            values: list[Any] = [None] * self.size
            dist.all_gather_object(values, value, group=group)
            return cast("list[T]", values)

        return gathered

    def said_by_first(self, value: T) -> T:
        """Rank 0's `value` on every rank; a collective."""
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return cast("T", values[0])

    def first_error(self, error: Exception | None) -> Exception | None:
        """The error of the lowest rank that has one, on every rank; a collective.

        An OSError comes as it is; another, which may not survive the way, as a RuntimeError with its words, on the rank
        itself caused by the error with its traceback. Its `origin` is the rank that it comes from.
        """
        told = error
        if error is not None and not isinstance(error, OSError):
            told = RuntimeError(f"{type(error).__name__}: {error}")
        for rank, found in enumerate(self.gather(told)):
            if found is not None:
                found.origin = rank  # type: ignore[attr-defined]
                found.__cause__ = error if rank == self.rank and error is not found else None
                return found
        return None


def attempted(action: Callable[[], object]) -> Exception | None:
    """The error of `action`, if any, instead of raising it: all ranks have to reach the next collective first."""
    try:
        action()
    except Exception as error:
        return error
    return None


def join(topology: Topology, timeout_s: float, deterministic: bool = False) -> World:
    """Join the ranks that torch's environment variables describe, and take this rank's device and threads.

    `timeout_s` is the longest that a rank waits for the others, e.g. while rank 0 reads an export back.
    """
    timeout = timedelta(seconds=timeout_s)
    local_rank = int(dist.get_node_local_rank())
    torch.set_num_threads(max(1, topology.threads_per_rank))
    if topology.device is Device.gpu:
        device = torch.device("cuda", local_rank)
        if local_rank >= torch.cuda.device_count():
            raise NoDeviceError(f"local rank {local_rank} has no GPU: torch sees {torch.cuda.device_count()} here")
        torch.cuda.set_device(device)
        if deterministic:
            # cuBLAS reads this when it starts; without it deterministic algorithms raise.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
            # Nothing here reads memory that was never written; filling all of it first only costs time.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        start_distributed("nccl", timeout)
    else:
        device = torch.device("cpu")
        start_distributed("gloo", timeout)
    return World(dist.get_rank(), dist.get_world_size(), local_rank, device, _control_group(timeout), timeout)


def _control_group(timeout: timedelta) -> dist.ProcessGroup:
    group: dist.ProcessGroup | None = dist.new_group(backend="gloo", timeout=timeout)
    if group is None:
        raise RuntimeError("this rank is not a member of the group of all ranks")
    return group


def leave() -> None:
    """Take the process groups down, so that no peer sees a broken connection."""
    if dist.is_initialized():
        dist.destroy_process_group()
