"""What GPUs can do, by words of their names: operations, memory traffic, links. Makers' data sheets, one direction."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GB, _TERA = 1e9, 1e12


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: dense bf16 operations a second without sparsity; bytes a second of its memory, from the GPUs of
    its node, and from the memory of its host."""

    operations: float
    memory: float
    peers: float
    host: float


def _gpu(tera_operations: float, memory_gb: float, peers_gb: float, host_gb: float) -> Gpu:
    return Gpu(tera_operations * _TERA, memory_gb * _GB, peers_gb * _GB, host_gb * _GB)


GPUS = {
    "H100 PCIe": _gpu(756, 2000, 50, 50),
    "H100 NVL": _gpu(835, 3900, 300, 50),
    "A100 80GB": _gpu(312, 2000, 300, 25),
    "H100": _gpu(989, 3350, 450, 55),
    "H200": _gpu(989, 4800, 450, 55),
    "H800": _gpu(989, 3350, 200, 55),
    "GH200": _gpu(989, 4000, 450, 450),
    "A100": _gpu(312, 1555, 300, 25),
    "A800": _gpu(312, 2000, 200, 25),
    "L40S": _gpu(362, 864, 25, 25),
    "L40": _gpu(181, 864, 25, 25),
    "A40": _gpu(150, 696, 25, 25),
    "A30": _gpu(165, 933, 25, 25),
    "A10": _gpu(125, 600, 25, 25),
    "L4": _gpu(121, 300, 25, 25),
    "H20": _gpu(148, 4000, 450, 55),
    "GB200": _gpu(2500, 8000, 900, 450),
    "B200": _gpu(2250, 8000, 900, 55),
    "B300": _gpu(2250, 8000, 900, 55),
}
"""By words of a device's name, the telling ones first."""


_SLICE = re.compile(r"(\d+)g\.(\d+)gb", re.IGNORECASE)
SEVENTHS = 7
"""Slices of operations that a GPU has, of which an instance of MIG gets the first number of its name."""


def slice_of(name: str) -> tuple[int, int] | None:
    """Sevenths of a GPU's operations and GB of memory of an instance of MIG, by a name such as `NVIDIA H100 80GB HBM3
    MIG 1g.10gb` or Slurm's `h100_1g.10gb`; None for a whole GPU."""
    found = _SLICE.search(name)
    return (int(found[1]), int(found[2])) if found else None


def gpu_by_name(name: str) -> Gpu | None:
    """The figures of a GPU by its name, of an instance of MIG its share; None for one that is not known."""
    kind, part = kind_of(name), slice_of(name)
    if kind is None or part is None:
        return None if kind is None else GPUS[kind]
    whole, share = GPUS[kind], part[0] / SEVENTHS
    # instances reach each other through the host alone
    return Gpu(share * whole.operations, share * whole.memory, share * whole.host, share * whole.host)


def kind_of(name: str) -> str | None:
    """The key of `GPUS` for a name such as `NVIDIA H100 80GB HBM3`, `NVIDIA A100-SXM4-80GB` or Slurm's `h100`."""
    words = set(re.split(r"[\s_-]+", name.upper()))
    return next((kind for kind in GPUS if set(kind.upper().split()) <= words), None)


def name_of(name: str) -> str:
    """What a GPU is called where its memory does not matter: `A100`, `H100 PCIe`, `H100 1g.10gb`; `gpu` for one that is
    not known."""
    part = slice_of(name)
    return (kind_of(name) or "gpu").removesuffix(" 80GB") + (f" {part[0]}g.{part[1]}gb" if part else "")


def peak_by_name(name: str) -> float | None:
    """Dense bf16 operations a second of a GPU; None for one that is not known."""
    gpu = gpu_by_name(name)
    return None if gpu is None else gpu.operations
