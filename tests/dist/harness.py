"""Groups of real ranks for the tests: each call of a function gets ranks of its own, which meet over gloo.

One server process has imported torch, DeepSpeed and transformers and forks the ranks, so that a group costs little.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 300
PRELOAD = ["torch", "deepspeed", "deepspeed.ops.adam", "transformers", "transformers.models.llama.modeling_llama"]


@dataclass(frozen=True)
class Rank:
    """How a rank ended: its exit status, negative for a signal; its result or its traceback."""

    status: int
    result: Any = None
    failure: str = ""


def launch_each(function: Callable[..., Any], ranks: int, calls: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """What `function(*call)` returned on each rank, for each call.

    Raises:
        RuntimeError: a rank failed; with what the ranks of its group said.
    """
    groups = [_run(function, ranks, call) for call in calls]
    for group in groups:
        if any(rank.status for rank in group):
            raise RuntimeError("\n".join(f"exit status {rank.status}\n{rank.failure}" for rank in group))
    return [[rank.result for rank in group] for group in groups]


def launch_to_fail(function: Callable[..., Any], ranks: int, calls: Sequence[tuple[Any, ...]]) -> list[list[Rank]]:
    """How each rank ended, for each call: for functions that are meant to break."""
    return [_run(function, ranks, call) for call in calls]


def join_world() -> Any:
    """The world of this rank, joined."""
    from conf.record import Device, Topology
    from train import distributed

    size = int(os.environ["WORLD_SIZE"])
    return distributed.join(Topology(1, size, Device.cpu, "fork", 1), timeout_s=600.0)


def _run(function: Callable[..., Any], ranks: int, call: tuple[Any, ...]) -> list[Rank]:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = [
            context.Process(target=_rank, args=(rank, ranks, port, folder, function, call)) for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT_S)
            if process.is_alive():
                process.kill()
                process.join()
        return [_ended(folder, rank, process.exitcode or 0) for rank, process in enumerate(processes)]


def _ended(folder: Path, rank: int, status: int) -> Rank:
    result, failure = folder / f"{rank}.result", folder / f"{rank}.failure"
    return Rank(
        status,
        pickle.loads(result.read_bytes()) if result.exists() else None,
        failure.read_text() if failure.exists() else "",
    )


def _rank(rank: int, ranks: int, port: int, folder: Path, function: Callable[..., Any], call: tuple[Any, ...]) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in environment.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"})
    try:
        result = function(*call)
        (folder / f"{rank}.result").write_bytes(pickle.dumps(result))
    except BaseException:
        (folder / f"{rank}.failure").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        os._exit(1)  # leaving in order would wait for ranks that still wait for this one
    from train import distributed

    distributed.leave()
