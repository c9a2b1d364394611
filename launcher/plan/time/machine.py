"""What a rank has to work with: operations, memory, links; as the site says, else by the GPU's name. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from conf.gpus import GPUS, Gpu, gpu_by_name, name_of
from conf.record import Device, Topology
from conf.schema import Precision, RunConfig
from launcher.facts.facts import Facts
from launcher.plan.memory.devices import gpu_names

GIGABIT = 1e9 / 8
ASSUMED_GPU = "A100"
FP32_SHARE = 1 / 12
"""Of the bf16 peak: matrix products in fp32 do not use the tensor cores as torch is set."""

CORE_OPERATIONS = 40e9
"""fp32 operations a second of a core in large matrix products: two fused multiply-adds of 8 numbers at about 1.5 GHz of
useful clock. bf16 has no instructions of its own on most."""

CPU_MEMORY, CPU_PEERS = 15e9, 2e9
"""Bytes a second for a rank on a CPU: from memory, and from another rank by gloo within the node."""

BETWEEN = ((450e9, 200.0), (200e9, 100.0), (0.0, 25.0))
"""Gbit/s between nodes that are assumed for each GPU, by what it receives from those of its node: half of what new
systems of H100s or A100s have."""

BETWEEN_CPUS = 10.0
"""Gbit/s of a node without GPUs."""

HOST_MEMORY = 100e9
"""Bytes a second that the cores of a node move while they update offloaded states (two sockets of DDR5, less than half
of their peak)."""


@dataclass(frozen=True)
class Machine:
    """A rank's share of its node. Bytes a second: `memory` of the device, `peers` from ranks of the node, `host` from
    the host's memory; `between` nodes and `host_memory` for all ranks of a node together. `known` tells whether the
    device's figures are its own or assumed; `peak` is what MFU refers to."""

    device: Device
    name: str
    operations: float
    memory: float
    peers: float
    between: float
    host: float
    host_memory: float
    known: bool
    peak: float | None
    source: str


def machine_of(config: RunConfig, facts: Facts, topology: Topology) -> Machine:
    """The machine of a configuration."""
    cluster = config.cluster
    if topology.device is Device.cpu:
        between = (cluster.inter_node_gbps or BETWEEN_CPUS) * GIGABIT
        peers = cluster.intra_node_gbps * GIGABIT if cluster.intra_node_gbps else CPU_PEERS
        slower = 2.0 if config.train.precision is not Precision.fp32 else 1.0
        operations = topology.threads_per_rank * CORE_OPERATIONS / slower
        cores = f"{topology.threads_per_rank} core{'s' * (topology.threads_per_rank > 1)}"
        source = f"{cores} a rank, assumed {CORE_OPERATIONS / 1e9:.0f} GFLOP/s each"
        name = f"cpu-{topology.threads_per_rank}"
        return Machine(
            Device.cpu, name, operations, CPU_MEMORY, peers, between, CPU_MEMORY, HOST_MEMORY, False, None, source
        )
    return _with_gpu(config, facts, topology.ranks_per_node)


def _with_gpu(config: RunConfig, facts: Facts, gpus: int) -> Machine:
    cluster = config.cluster
    name, gpu, found, known = gpu_of(config, facts)
    given = cluster.gpu_tflops
    peak = given * 1e12 if given else gpu.operations
    operations = peak * (FP32_SHARE if config.train.precision is Precision.fp32 else 1.0)
    peers = cluster.intra_node_gbps * GIGABIT if cluster.intra_node_gbps else gpu.peers
    assumed = gpus * next(each for least, each in BETWEEN if gpu.peers >= least)
    between = (cluster.inter_node_gbps or assumed) * GIGABIT
    host = cluster.host_link_gbps * GIGABIT if cluster.host_link_gbps else gpu.host
    said = [found, f"{peak / 1e12:.0f} TFLOP/s bf16{' (cluster.gpu_tflops)' if given else ''}"]
    links = [f"{peers / 1e9:.0f} GB/s in a node"]
    links.append(f"{between / 1e9:.0f} GB/s between nodes{'' if cluster.inter_node_gbps else ' (assumed)'}")
    known = known or given is not None
    return Machine(
        Device.gpu,
        name,
        operations,
        gpu.memory,
        peers,
        between,
        host,
        HOST_MEMORY,
        known,
        peak if known else None,
        ", ".join([*said, *links]),
    )


def gpu_of(config: RunConfig, facts: Facts) -> tuple[str, Gpu, str, bool]:
    """What the GPU is called, its figures, and whether they are its own: else those of a middling one."""
    for name, source in gpu_names(config.cluster, facts):
        gpu = gpu_by_name(name)
        if gpu is not None:
            return name_of(name), gpu, f"{name_of(name)} ({source})", True
    return name_of(""), GPUS[ASSUMED_GPU], f"an unknown GPU, taken for an {ASSUMED_GPU}", False
