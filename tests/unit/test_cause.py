"""Texts of libraries against classes, and which of several failures was the first."""

from __future__ import annotations

import random

import pytest

from conf.cause import TERMINATED, all_failures, first_cause
from conf.failure_texts import classify_text, telling_lines
from conf.outcome import AgentReport, Cause, Failure, RankExit

TEXTS = {
    Cause.cuda_oom: (
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity "
            "of 79.1 GiB of which 1.2 GiB is free."
        ),
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ),
    Cause.oom: (
        "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed. ",
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,)",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.0 cgroup.",
        "Memory cgroup out of memory: Killed process 17019 (rank1) total-vm:309524kB",
    ),
    Cause.shm_full: (
        (
            "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory. Please try to raise your shared memory limit."
        ),
        "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'",
    ),
    Cause.disk_full: (
        "RuntimeError: [enforce fail at inline_container.cc:783] . unexpected pos 1 vs 0: No space left on device",
    ),
    Cause.file_system: ("OSError: [Errno 116] Stale file handle",),
    Cause.nccl_timeout: (
        (
            "[rank1]:[E] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, "
            "OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600029 milliseconds before "
            "timing out."
        ),
        (
            "[Rank 0] Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA "
            "kernels, subsequent GPU operations might run on corrupted/incomplete data."
        ),
    ),
    Cause.nccl: (
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1275, unhandled cuda error "
            "(run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5"
        ),
        (
            "NCCL error in: NCCLUtils.hpp:268, unhandled system error (run with NCCL_DEBUG=INFO for details), "
            "NCCL version 2.27.3\nncclSystemError: System call (e.g. socket, malloc) or external library call "
            "failed or device error."
        ),
        (
            "n1:12:34 [0] transport/net_ib.cc:1295 NCCL WARN NET/IB: Got completion from peer 10.0.0.2<3> with "
            "status=12 opcode=129 len=0 vendor err 129 (Recv)"
        ),
    ),
    Cause.lost_peer: (
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.2]:41234",
        "[gloo/transport/tcp/pair.cc:538] Read error [10.0.0.2]:41234: Connection reset by peer",
        "The client socket has timed out after 60000ms while trying to connect to (n1, 15001).",
    ),
    Cause.config: (
        "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000",
        "OSError: [Errno 24] Too many open files",
    ),
    Cause.gpu: (
        "CUDA error: uncorrectable ECC error encountered",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=rank1, GPU has fallen off the bus.",
        "CUDA error: an illegal memory access was encountered",
    ),
    Cause.user_code: ("CUDA error: device-side assert triggered",),
    Cause.hang: (
        "[gloo/transport/tcp/unbound_buffer.cc:84] Timed out waiting 1800000ms for recv operation to complete",
        "Application timeout caused pair closure",
    ),
    Cause.port: (
        (
            "The server socket has failed to listen on any local network address. port: 15001, useIpv6: false, "
            "code: -98, name: EADDRINUSE, message: address already in use"
        ),
    ),
    Cause.import_error: (
        "CUDA Setup failed despite GPU being available. Please run the following command to get more information",
        "RuntimeError: Configured CUDA binary not found at /x/libbitsandbytes_cuda124.so",
        "ImportError: /lib64/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by x.so)",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
    ),
    Cause.hub: (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
        "huggingface_hub.errors.GatedRepoError: 401 Client Error.",
        (
            "OSError: llama is not a local folder and is not a valid model identifier listed on "
            "'https://huggingface.co/models'"
        ),
    ),
    Cause.checkpoint: (
        "safetensors_rust.SafetensorError: Error while deserializing header: InvalidHeaderDeserialization",
    ),
}


CASES = [(text, cause) for cause, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize(("text", "cause"), CASES, ids=[text[:40] for text, _ in CASES])
def test_class_of_a_text(text: str, cause: Cause) -> None:
    assert classify_text(text) is cause


def test_lines_of_healthy_runs_prove_nothing() -> None:
    healthy = ["step 3 loss 2.1", "Connection closed", "wandb: Network error (ConnectionError), entering retry loop."]
    healthy += ["Permission denied: ~/.cache, using /tmp", "address already in use, trying the next port"]
    assert list(telling_lines(healthy)) == []


def failure(
    cause: Cause, rank: int, time: float, node: int = 0, message: str = "", origin: int | None = None
) -> Failure:
    return Failure(rank, node, f"n{node}", time, cause, message, origin=origin)


def agent(
    node: int, met: float | None = None, said: Failure | None = None, exits: list[RankExit] | None = None
) -> AgentReport:
    return AgentReport(node, f"n{node}", 0.0, 99.0, "fork", exits or [], said, met)


FIRST: dict[str, tuple[list[Failure], list[AgentReport], int]] = {
    "a victim earlier by its clock": (
        [failure(Cause.lost_peer, 0, 10.0), failure(Cause.user_code, 3, 40.0, node=1)],
        [],
        3,
    ),
    "a watchdog before the crash is seen": (
        [failure(Cause.nccl_timeout, 0, 10.0), failure(Cause.oom, 2, 12.0, node=1)],
        [],
        2,
    ),
    "a watchdog against a closed connection": (
        [failure(Cause.lost_peer, 0, 10.0), failure(Cause.hang, 2, 12.0, node=1)],
        [],
        2,
    ),
    "two bugs, node 1's clock 30 s behind": (
        [failure(Cause.user_code, 0, 100.0), failure(Cause.data, 2, 71.0, node=1)],
        [agent(0, 50.0), agent(1, 20.0)],
        0,
    ),
    "two bugs, clocks almost equal": (
        [failure(Cause.user_code, 0, 100.0), failure(Cause.data, 2, 99.9, node=1)],
        [agent(0, 50.0), agent(1, 50.4)],
        2,
    ),
    "an error that all repeat": (
        [failure(Cause.disk_full, 0, 10.0, origin=1), failure(Cause.disk_full, 1, 10.2, origin=1)],
        [],
        1,
    ),
    "an agent told to end": (
        [failure(Cause.killed, 1, 12.0)],
        [agent(0, said=failure(Cause.killed, -1, 10.0, message=TERMINATED))],
        1,
    ),
    "at the same moment": ([failure(Cause.user_code, 1, 10.0), failure(Cause.user_code, 0, 10.0)], [], 0),
    "silent, seen by its agent": (
        [failure(Cause.lost_peer, 0, 10.0)],
        [agent(0, exits=[RankExit(1, 1, 7, 10.0, signal=9)])],
        1,
    ),
    "ended by its agent": (
        [failure(Cause.user_code, 0, 10.0)],
        [agent(0, exits=[RankExit(1, 1, 7, 9.0, signal=9, ended_by_agent=True)])],
        0,
    ),
}


@pytest.mark.parametrize(("failures", "reports", "rank"), FIRST.values(), ids=FIRST)
def test_first_cause(failures: list[Failure], reports: list[AgentReport], rank: int) -> None:
    for seed in range(5):  # whatever the order of the files
        shuffled = random.Random(seed).sample(failures, len(failures))
        first = first_cause(all_failures(shuffled, reports))
        assert first is not None
        assert first.rank == rank
