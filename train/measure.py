"""What machines do: matrix products, memory, disks, all-gathers. `muster doctor --bench` runs it on every rank.

A program by itself, started as any program of a person's own: it knows torchrun's variables and Muster's for guests,
imports torch and nothing of Muster, and leaves its figures as one line of metrics.jsonl. With `--build-ops` it compiles
DeepSpeed's CPU Adam where runs of this environment look for it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

MIB = 1 << 20
REPEATS = 5


def main() -> None:
    """Measure what was asked for and write it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--build-ops", action="store_true")
    parser.add_argument("--disk-mib", type=int, default=1024)
    options = parser.parse_args()
    device = _device()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    found: dict[str, float] = {}
    if options.build_ops:
        found |= build_ops()
    if options.bench:
        found |= compute(device) | exchange(device) | disks(options.disk_mib)
    if dist.get_rank() == 0:
        line = {"step": 1, "attempt": int(os.environ["MUSTER_ATTEMPT"]), "time": time.time()}
        with Path(os.environ["MUSTER_METRICS"]).open("a") as file:
            file.write(json.dumps(line | found) + "\n")
        print(json.dumps(found, indent=2), flush=True)
    dist.barrier()
    dist.destroy_process_group()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The median time of `work` over some repetitions, after one that does not count."""
    times = []
    for number in range(REPEATS + 1):
        started = _now(device)
        work()
        if number:
            times.append(_now(device) - started)
    return statistics.median(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compute(device: torch.device) -> dict[str, float]:
    """Operations of matrix products and bytes of memory traffic a second, of the slowest rank; the host's link."""
    side = 8192 if device.type == "cuda" else 1536
    found = {}
    for name, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left = torch.randn(side, side, device=device).to(kind)
        right = torch.randn(side, side, device=device).to(kind)
        taken = seconds(lambda a=left, b=right: a @ b, device)  # type: ignore[misc]
        found[f"bench/matmul_{name}_tflops"] = 2 * side**3 / taken / 1e12
    source = torch.empty((2048 if device.type == "cuda" else 256) * MIB, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    found["bench/memory_gb_s"] = 2 * source.numel() / seconds(lambda: target.copy_(source), device) / 1e9
    if device.type == "cuda":
        host = torch.empty(512 * MIB, dtype=torch.uint8, pin_memory=True)
        part = target[: host.numel()]
        found["bench/host_link_gbps"] = 8 * host.numel() / seconds(lambda: part.copy_(host), device) / 1e9
    return slowest(found, device)


def slowest(found: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each figure of the rank where it is lowest."""
    values = torch.tensor(list(found.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values, op=dist.ReduceOp.MIN)
    return dict(zip(found, values.tolist(), strict=True))


def exchange(device: torch.device) -> dict[str, float]:
    """Gbit/s that a rank receives from those of its node, and a node from others, in all-gathers as ZeRO sends them."""
    world, local = dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = world // local
    each = (256 if device.type == "cuda" else 32) * MIB
    found = {}
    if local > 1:
        groups = [dist.new_group(list(range(node * local, (node + 1) * local))) for node in range(nodes)]
        taken = gather_s(groups[dist.get_rank() // local], local, each, device)
        found["bench/intra_node_gbps"] = 8 * (local - 1) * each / taken / 1e9
    if nodes > 1:
        taken = gather_s(None, world, each, device)
        found["bench/inter_node_gbps"] = 8 * (nodes - 1) * local * each / taken / 1e9
    if world > 1:
        tensor = torch.ones(each // 4, device=device)
        taken = seconds(lambda: dist.all_reduce(tensor), device)
        found["bench/all_reduce_gb_s"] = each / taken / 1e9
    return slowest(found, device) if found else {}


def gather_s(group: dist.ProcessGroup | None, size: int, each: int, device: torch.device) -> float:
    """Seconds of an all-gather of `each` bytes of every rank."""
    part = torch.ones(each // 2, dtype=torch.bfloat16, device=device)
    whole = torch.empty(size * part.numel(), dtype=torch.bfloat16, device=device)
    return seconds(lambda: dist.all_gather_into_tensor(whole, part, group=group), device)


def disks(mib: int) -> dict[str, float]:
    """MB/s of the node's scratch folder and of the folder of runs: written and flushed, read without the page cache."""
    found: dict[str, float] = {}
    if dist.get_rank() == 0:
        for name, variable in (("scratch", "MUSTER_SCRATCH"), ("runs", "MUSTER_RUN")):
            place = Path(os.environ[variable]) / f"measure-{os.getpid()}"
            try:
                written, read = disk(place, mib)
            finally:
                place.unlink(missing_ok=True)
            found |= {f"bench/{name}_write_mb_s": written, f"bench/{name}_read_mb_s": read}
    dist.barrier()
    return found


def disk(place: Path, mib: int) -> tuple[float, float]:
    """MB/s of writing and of reading a new file of `mib` MiB."""
    block = os.urandom(4 * MIB)
    started = time.perf_counter()
    with place.open("wb") as file:
        for _ in range(mib // 4):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    written = mib * MIB / (time.perf_counter() - started) / 1e6
    with place.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        while file.read(4 * MIB):
            pass
    return written, mib * MIB / (time.perf_counter() - started) / 1e6


def build_ops() -> dict[str, float]:
    """Compile CPU Adam on each node's first rank; how long that took on the first node, in seconds."""
    taken = 0.0
    if int(os.environ["LOCAL_RANK"]) == 0:
        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        from deepspeed.ops.op_builder import CPUAdamBuilder

        started = time.perf_counter()
        CPUAdamBuilder().load(verbose=False)
        taken = time.perf_counter() - started
    dist.barrier()
    return {"bench/build_ops_s": taken}


if __name__ == "__main__":
    main()
