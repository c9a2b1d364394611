"""Where a run runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

from conf.schema.key import key


class ClusterKind(Enum):
    """What starts the processes of a run."""

    local = "local"
    slurm = "slurm"


class Start(Enum):
    """How a node's agent starts its ranks."""

    auto = "auto"
    exec = "exec"
    fork = "fork"


class Continuation(Enum):
    """How a run goes on after its job ended too early."""

    auto = "auto"
    requeue = "requeue"
    chain = "chain"
    none = "none"


class ContainerRuntime(Enum):
    """What runs a container image on the nodes."""

    none = "none"
    pyxis = "pyxis"
    apptainer = "apptainer"


@dataclass
class ContainerConfig:
    """An image in which the ranks run."""

    runtime: ContainerRuntime = key(
        ContainerRuntime.none,
        "`pyxis` (srun --container-image) or `apptainer` (apptainer exec).",
    )
    image: str = key("", "Image file or reference; a squashfs or .sif file starts fastest.")
    mounts: list[str] = key([], "`source:target[:flags]`; the run folder, caches and data are mounted by Muster.")
    env: list[str] = key([], "Names of variables that win over the image's own (pyxis --container-env).")


@dataclass
class NetworkConfig:
    """Which network the ranks use. Nothing is set where nothing is given."""

    interface: Optional[str] = key(
        None,
        "Interface of sockets by its whole name, e.g. `ib0` → GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME; "
        "`^docker0`: any other, for NCCL alone.",
    )
    host_suffix: str = key("", "Appended to the head node's name for MASTER_ADDR, e.g. `-ib`.")
    ib_hcas: list[str] = key(
        [], "InfiniBand adapters by their whole names, e.g. [mlx5_0, mlx5_1] → NCCL_IB_HCA; [^mlx5_0]: all others."
    )


@dataclass
class ClusterConfig:
    """Where the run runs. `cluster=local|slurm|devcluster|<your site>`; a site file is `defaults: [slurm, _self_]`."""

    kind: ClusterKind = key(ClusterKind.local, "`local`: this machine; `slurm`: sbatch.")
    nodes: int = key(
        1,
        "Nodes. `auto` (in a file: 0) takes as many as make the run cheapest in GPU-hours, of those on which it fits; "
        "with it goes `parallel=auto`, unless another is chosen.",
    )
    max_nodes: Optional[int] = key(
        None, "Most nodes that `nodes=auto` may take. Null: 64, or what the partition gives a job."
    )
    ranks_per_node: Optional[int] = key(None, "Processes on a node. Null: `gpus_per_node`, or 1 without GPUs.")
    gpus_per_node: int = key(0, "GPUs on a node; 0 trains on the CPU. On `local`, -1 takes what is there.")
    gpu_memory_gib: Optional[float] = key(
        None,
        "Memory of each GPU in GiB, for the estimate of `muster plan`. Null: by the GPU's name on this machine, in "
        "`gres` or in the partition; set it where none of them tells.",
    )
    memory_check: bool = key(
        True,
        "Refuse to start what is expected to need more memory than there is; `false`: only warn.",
    )
    gres: Optional[str] = key(None, "sbatch --gres instead of --gpus-per-node, where the site wants it: `gpu:h100:8`.")
    account: Optional[str] = key(None, "sbatch --account.")
    partition: Optional[str] = key(None, "sbatch --partition.")
    qos: Optional[str] = key(None, "sbatch --qos.")
    time: Optional[str] = key(
        None,
        "sbatch --time, in quotes: '12:30:00', '2-00:00:00'. The run goes on in a new job if it is not done by then.",
    )
    cpus_per_task: Optional[int] = key(
        None,
        "Cores of a node for all its ranks (one Slurm task a node). Null: the site's default.",
    )
    mem: Optional[str] = key(None, "sbatch --mem, host memory of a node: 900G; '0' is all of it.")
    constraint: Optional[str] = key(None, "sbatch --constraint.")
    nodelist: Optional[str] = key(None, "sbatch --nodelist.")
    exclude: Optional[str] = key(None, "sbatch --exclude.")
    reservation: Optional[str] = key(None, "sbatch --reservation.")
    exclusive: bool = key(False, "sbatch --exclusive: nobody else on the nodes.")
    sbatch: dict[str, Any] = key(
        {},
        "Any further sbatch option by its long name: {mail-type: END, switches: '1@12:00:00'}; true stands for a "
        "flag without value.",
    )
    signal_lead_s: int = key(
        300,
        "Seconds before the time limit at which a run saves that has not saved yet (sbatch --signal). Once it has, it "
        "stops by itself when a save, measured, just fits.",
    )
    continuation: Continuation = key(
        Continuation.auto,
        "How the run goes on after time limit, preemption or a node failure: `requeue` puts its job back into the "
        "queue; `chain`: from the start of each job the next one waits for its end, for sites that forbid to requeue "
        "or cancel what they preempt; `none`: not at all. `auto`: chain where Slurm says JobRequeue=0 or that the "
        "partition cancels what it preempts, else requeue.",
    )
    max_requeues: int = key(
        20, "How often a run goes on by itself; `muster resume` begins to count again. Raise it for short time limits."
    )
    requeue: Optional[bool] = key(None, "The older name of `continuation`: true is `requeue`, false is `none`.")
    python: Optional[str] = key(
        None,
        "Python of the ranks' environment: a venv's bin/python, or its name after `modules`, `setup` or in the "
        "container. Null: the one Muster runs with.",
    )
    modules: list[str] = key([], "`module load` lines before the launch.")
    setup: list[str] = key(
        [],
        "Shell lines before the launch, in every node's step. They are code: only from people you trust.",
    )
    container: ContainerConfig = key(ContainerConfig, "Image in which the ranks run.")
    network: NetworkConfig = key(NetworkConfig, "Which network the ranks use.")
    env: dict[str, str] = key(
        {},
        "Environment of the ranks: NCCL and other settings. Never secrets: scripts can be read by others.",
    )
    pass_env: list[str] = key(
        [],
        "Names of further variables that pass from the submitting shell through the scrubbed environment.",
    )
    start: Start = key(Start.auto, "`fork` imports once a node, `exec` once a rank; `auto`: exec with GPUs, else fork.")
    scratch: str = key("/tmp", "Node-local folder for temporary, compile and kernel caches.")
    slurm_conf: Optional[str] = key(
        None,
        "SLURM_CONF for Slurm's commands; `devcluster` stands for the Slurm of `muster devcluster up`.",
    )
    node_ledger: Optional[str] = key(
        None,
        "Folder of the ledger of bad nodes, seen by all nodes. Null: one of your own in ~/.local/state/muster/nodes. "
        "A site shares one by naming a folder in which its people may write: mode 1777, or 3770 for a group.",
    )
    measurements: Optional[str] = key(
        None,
        "Folder where runs leave the memory and time that they measured beside what their plans predicted, by which "
        "later plans are corrected. Null: one of your own, ~/.local/state/muster/measured. A site shares one as it "
        "shares `node_ledger`.",
    )
    gpu_tflops: Optional[float] = key(
        None,
        "What a GPU computes in dense bf16, in 10^12 operations a second, for the estimate of time. Null: its maker's "
        "figure by the GPU's name.",
    )
    intra_node_gbps: Optional[float] = key(
        None,
        "Gbit/s that a rank receives from the others of its node (NVLink of an H100: 3600), for the estimate of time. "
        "Null: by the GPU's name.",
    )
    inter_node_gbps: Optional[float] = key(
        None,
        "Gbit/s that a node receives from other nodes over all its adapters together (8 of 400 each: 3200), for the "
        "estimate of time. Null: assumed, 25 to 200 for each GPU by its kind, 10 without GPUs.",
    )
    host_link_gbps: Optional[float] = key(
        None,
        "Gbit/s between a GPU and the memory of its host (PCIe 5: 440), which offloaded states pass. Null: by the "
        "GPU's name.",
    )
    gpu_hour_rate: Optional[float] = key(
        None, "What an hour of one GPU costs; with it `muster plan` says what a run costs. Null: no costs are said."
    )
    currency: str = key("", "In which `gpu_hour_rate` is given: EUR, USD, credits.")
