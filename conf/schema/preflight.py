"""What a node has to have before its ranks start."""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema.key import key


@dataclass
class PreflightConfig:
    """Limits of the pre-flight of every node. 0 turns a limit off; what was found is written down all the same."""

    limit_s: float = key(
        20.0,
        "Longest that the pre-flight takes. What it could not see by then is no failure, but a node that found no way "
        "to the head node is.",
    )
    scratch_gib: float = key(1.0, "Least free disk of `cluster.scratch`, in GiB.")
    run_gib: float = key(1.0, "Least free disk where the run folder is, in GiB.")
    memory_gib: float = key(1.0, "Least free memory of a node, in GiB; for offloaded states what the plan says.")
    gpu_used_gib: float = key(
        2.0, "Most memory of a GPU that is in use before a rank has started, in GiB: another process left behind."
    )
    shm_gib: float = key(1.0, "Least size of /dev/shm on nodes with GPUs, in GiB: containers often have 64 MiB.")
    memlock_gib: float = key(
        1.0, "Least memory that may be locked (ulimit -l) on nodes with GPUs and InfiniBand, in GiB."
    )
    open_files: int = key(1024, "Least number of open files (ulimit -n).")
    clock_s: float = key(5.0, "Most that a node's clock may differ from the head node's, in seconds.")
    link_mib_s: float = key(
        0.0, "Least bandwidth of one TCP connection from a node to the head node, in MiB/s. A site knows its own."
    )
    all_reduce_mib_s: float = key(
        0.0,
        "What an all-reduce over all ranks reaches at this site, in MiB/s, as a good run's "
        "`attempts/N/preflight/all_reduce.json` says. Less than half of it is a warning.",
    )
