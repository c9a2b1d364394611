"""What nvidia-smi says of the GPUs that this job sees. Nothing here opens a GPU, so that ranks can still be forked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conf.preflight import Check

FIELDS = (
    *("index", "uuid", "name", "driver_version", "memory.used"),
    *("ecc.errors.uncorrected.volatile.total", "retired_pages.pending"),
)
SMI_S = 12.0
"""A driver that nobody has kept open takes seconds to start."""


@dataclass(frozen=True)
class Gpu:
    """One GPU; None where the driver does not say."""

    index: str
    uuid: str
    name: str
    driver: str
    used_mib: float | None
    uncorrected: float | None
    retiring: bool


@dataclass(frozen=True)
class Gpus:
    """The GPUs, or why they could not be asked; `broken` where the driver itself says that something is wrong."""

    found: tuple[Gpu, ...] = ()
    error: str = ""
    broken: bool = False


def ask_gpus(visible: str | None) -> Gpus:
    """Ask nvidia-smi; `visible` is CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Gpus(error="nvidia-smi is not there")
    argv = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SMI_S, env={**os.environ, "LC_ALL": "C"})
    except subprocess.TimeoutExpired:
        return Gpus(error=f"nvidia-smi did not answer within {SMI_S:.0f} s")
    except OSError as error:
        return Gpus(error=str(error))
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        return Gpus(error=said[-1] if said else f"nvidia-smi ended with status {done.returncode}", broken=True)
    return Gpus(tuple(_visible(parse_gpus(done.stdout), visible)))


def parse_gpus(output: str) -> list[Gpu]:
    """The lines of nvidia-smi; one of another shape is left out."""
    found = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(FIELDS):
            continue
        index, uuid, name, driver, used, uncorrected, retiring = cells
        found.append(Gpu(index, uuid, name, driver, _number(used), _number(uncorrected), retiring == "Yes"))
    return found


def gpu_checks(gpus: Gpus, wanted: int, used_limit_gib: float) -> Iterator[Check]:
    """Count, errors and memory in use; what could not be asked is no failure, torch will see."""
    if gpus.error:
        yield Check("gpus", not gpus.broken, gpus.error, f"has to show {wanted} GPUs")
        return
    count = len(gpus.found)
    names = ", ".join(sorted({gpu.name for gpu in gpus.found}))
    yield Check("gpus", count >= wanted, f"{count} ({names})" if names else "0", f"has to be {wanted}")
    sick = [
        f"GPU {gpu.index} {gpu.uuid}: {gpu.uncorrected or 0:.0f} uncorrected errors"
        + (", retires pages" if gpu.retiring else "")
        for gpu in gpus.found
        if gpu.uncorrected or gpu.retiring
    ]
    yield Check("ecc", not sick, "; ".join(sick) or "no uncorrected errors", "has to have none since the last boot")
    used = [gpu.used_mib / 1024 for gpu in gpus.found if gpu.used_mib is not None]
    most = max(used, default=0.0)
    limit = f"has to be at most {used_limit_gib:g} GiB"
    yield Check("gpu_used", not used_limit_gib or most <= used_limit_gib, f"{most:.1f} GiB in use", limit)


def _visible(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES names, by index or UUID; all where it names something else, such as a slice."""
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    known = {gpu.index: gpu for gpu in gpus} | {gpu.uuid: gpu for gpu in gpus}
    if not names or not all(name in known for name in names):
        return list(gpus)
    return [known[name] for name in names]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]", "[Not Supported]"
