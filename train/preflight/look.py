"""What a node finds when it looks at itself: disks, memory, limits, GPUs, versions, the shared folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from conf.layout import Attempt
from conf.preflight import Check, Preflight
from conf.record import Device, Plan
from conf.schema import PreflightConfig
from train.node.env import NodeEnv
from train.preflight.gpus import Gpus, ask_gpus, gpu_checks

GIB = 2**30
PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "peft", "numpy", "msgspec")
SHARED_FOLDER_S = 10.0
"""How long a node looks for what the head node wrote; a shared folder may show it late."""
POLL_S = 0.2


def look(plan: Plan, attempt: Attempt, environment: NodeEnv, host: str) -> tuple[Preflight, bytes]:
    """The node by itself, and the attempt's token (empty where the shared folder does not show it)."""
    begun = time.monotonic()
    limits = plan.config.health.preflight
    on_gpus = plan.topology.device is Device.gpu
    gpus = ask_gpus(os.environ.get("CUDA_VISIBLE_DEVICES")) if on_gpus else Gpus()
    token, shared = check_shared_folder(attempt, environment)
    checks = [
        shared,
        *_disk_checks(limits, environment.scratch, attempt.folder),
        _memory_check(limits),
        *_limit_checks(limits, on_gpus),
        *(gpu_checks(gpus, plan.topology.ranks_per_node, limits.gpu_used_gib) if on_gpus else ()),
    ]
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": versions(),
        "kernel": platform.release(),
    }
    if gpus.found:
        facts |= {"gpu_model": gpus.found[0].name, "gpu_driver": gpus.found[0].driver, "gpu_count": len(gpus.found)}
    seconds = time.monotonic() - begun
    return Preflight(environment.node, host, time.time(), round(seconds, 3), checks, facts), token


def check_shared_folder(attempt: Attempt, environment: NodeEnv) -> tuple[bytes, Check]:
    """Whether the node sees this attempt as the head node wrote it, and may write into it; with the token in it."""
    deadline = time.monotonic() + SHARED_FOLDER_S
    while True:
        try:
            job = json.loads(attempt.job.read_bytes())
            if job.get("job") == environment.job:
                break
            seen = f"{attempt.job} is that of job {job.get('job')}"
        except (OSError, ValueError, AttributeError) as error:
            seen = f"{attempt.job}: {error}"
        if time.monotonic() > deadline:
            return b"", Check("shared_folder", False, seen, f"has to show within {SHARED_FOLDER_S:.0f} s")
        time.sleep(POLL_S)
    probe = attempt.folder / f".node{environment.node}"
    try:
        probe.write_bytes(b"written by the pre-flight\n")
        probe.unlink()
    except OSError as error:
        return b"", Check("shared_folder", False, f"{error}", "has to take a file")
    return read_token(attempt), Check("shared_folder", True, "visible and writable")


def read_token(attempt: Attempt) -> bytes:
    """What the job script wrote for this attempt, and nobody else can read; empty where there is none."""
    try:
        return str(json.loads(attempt.job.read_bytes()).get("token", "")).encode()
    except (OSError, ValueError, AttributeError):
        return b""


def versions() -> dict[str, str]:
    """Versions of the packages that compute; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _disk_checks(limits: PreflightConfig, scratch: Path, run: Path) -> Iterator[Check]:
    for name, folder, least in (("scratch", scratch, limits.scratch_gib), ("run_disk", run, limits.run_gib)):
        try:
            free = shutil.disk_usage(folder).free / GIB
        except OSError as error:
            yield Check(name, False, str(error), "has to be there")
            continue
        yield _at_least(name, free, least, f"free at {folder}")


def _memory_check(limits: PreflightConfig) -> Check:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return _at_least("memory", int(line.split()[1]) / 2**20, limits.memory_gib, "of memory free")
    return Check("memory", True, "the kernel does not say")


def _limit_checks(limits: PreflightConfig, on_gpus: bool) -> Iterator[Check]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    endless = files == resource.RLIM_INFINITY
    words = f"has to be at least {limits.open_files}; ulimit -n in cluster.setup raises it up to the hard limit"
    yield Check("open_files", endless or files >= limits.open_files, "unlimited" if endless else str(files), words)
    with contextlib.suppress(OSError):
        size = shutil.disk_usage("/dev/shm").total / GIB
        yield _at_least("shm", size, limits.shm_gib if on_gpus else 0.0, "in /dev/shm")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    adapters = Path("/sys/class/infiniband")
    has_adapters = adapters.is_dir() and any(adapters.iterdir())
    if locked == resource.RLIM_INFINITY:
        yield Check("memlock", True, "unlimited")
    else:
        yield _at_least("memlock", locked / GIB, limits.memlock_gib if on_gpus and has_adapters else 0.0, "lockable")


def _at_least(name: str, gib: float, least: float, words: str) -> Check:
    return Check(name, gib >= least, f"{gib:.2f} GiB {words}", f"has to be at least {least:g} GiB" if least else "")
