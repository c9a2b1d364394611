"""Which class of failure a text belongs to: what torch, NCCL, gloo, CUDA, allocators, the kernel and the hub say. Pure.

Whoever reads an exception (`train.node.causes`) or a log (agents and `muster why`) looks here, so that both mean the
same by the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from conf.outcome import Cause

TEXTS: tuple[tuple[str, Cause], ...] = (
    # Memory of the GPU; before that of the host, whose words are contained in these.
    (r"cuda out of memory", Cause.cuda_oom),
    (r"cuda error: out of memory", Cause.cuda_oom),
    (r"cuda failure 2 .?out of memory", Cause.cuda_oom),
    (r"hip out of memory", Cause.cuda_oom),
    (r"cublas_status_alloc_failed", Cause.cuda_oom),
    # Memory of the host, shared memory.
    (r"dataloader worker .* killed by signal: bus error", Cause.shm_full),
    (r"out of shared memory", Cause.shm_full),
    (r"insufficient shared memory", Cause.shm_full),
    (r"no space left on device.*/dev/shm|/dev/shm.*no space left on device", Cause.shm_full),
    (r"dataloader worker .* killed by signal: killed", Cause.oom),
    (r"can(?:'|no)t allocate memory", Cause.oom),
    (r"std::bad_alloc", Cause.oom),
    (r"memoryerror", Cause.oom),
    (r"unable to allocate .*[kmgt]i?b for an array", Cause.oom),
    (r"oom[-_]kill event", Cause.oom),
    (r"memory cgroup out of memory: killed process", Cause.oom),
    (r"out of memory: killed process", Cause.oom),
    (r"exceeded (?:job|step) memory limit", Cause.oom),
    # Disks and shared file systems.
    (r"no space left on device", Cause.disk_full),
    (r"disk quota exceeded", Cause.disk_full),
    (r"stale (?:nfs )?file handle", Cause.file_system),
    (r"\[errno 5\] input/output error", Cause.file_system),
    (r"read-only file system", Cause.file_system),
    (r"transport endpoint is not connected", Cause.file_system),
    # What is installed.
    (r"cannot open shared object file", Cause.import_error),
    (r"undefined symbol", Cause.import_error),
    (r"version `?(?:glibc|glibcxx|cxxabi)_[\d.]+'? not found", Cause.import_error),
    (r"cuda setup failed despite", Cause.import_error),
    (r"libbitsandbytes_\w+\.so", Cause.import_error),
    (r"configured (?:cuda|rocm) binary not found", Cause.import_error),
    (r"torch not compiled with cuda", Cause.import_error),
    (r"driver version is insufficient", Cause.import_error),
    (r"nvidia driver on your system is too old", Cause.import_error),
    (r"no kernel image is available for execution", Cause.import_error),
    (r"cuda_home environment variable is not set", Cause.import_error),
    (r"(?:error building extension|ninja is required to load)", Cause.import_error),
    (r"requires the following packages that were not found", Cause.import_error),
    (r"modulenotfounderror: ", Cause.import_error),
    # The hub.
    (r"couldn'?t connect to '?https?://[^ ]*hugging", Cause.hub),
    (r"outgoing traffic has been disabled", Cause.hub),
    (r"offline mode is enabled|offlinemodeisenabled", Cause.hub),
    (r"(?:gatedrepo|repositorynotfound|revisionnotfound|localentrynotfound|entrynotfound)error", Cause.hub),
    (r"(?:cannot|can't) access gated repo|access to (?:model|dataset) .* is restricted", Cause.hub),
    (r"not a valid model identifier listed on", Cause.hub),
    (r"(?:40[134]|429|50[0234]) (?:client|server) error.*hugging", Cause.hub),
    (r"max retries exceeded with url", Cause.hub),
    # GPUs that fail, or are used wrongly.
    (r"uncorrectable (?:ecc|nvlink) error", Cause.gpu),
    (r"nvrm: xid", Cause.gpu),
    (r"fallen off the bus", Cause.gpu),
    (r"cuda error: (?:an illegal memory access|misaligned address|illegal instruction)", Cause.gpu),
    (r"cuda error: (?:unspecified launch failure|hardware stack error|unknown error)", Cause.gpu),
    (r"cuda error: (?:no cuda-capable device|all cuda-capable devices are busy|invalid device ordinal)", Cause.gpu),
    (r"cuda error: (?:system not yet initialized|initialization error)", Cause.gpu),
    (r"cuda (?:driver )?initialization (?:failed|error)|no cuda gpus are available", Cause.gpu),
    (r"device-side assert triggered", Cause.user_code),
    # NCCL. A time-out says that somebody did not come; a remote error that somebody has gone.
    (r"duplicate gpu detected", Cause.config),
    (r"watchdog caught collective operation timeout", Cause.nccl_timeout),
    (r"collective operation timeout", Cause.nccl_timeout),
    (r"some nccl operations have failed or timed out", Cause.nccl_timeout),
    (r"heartbeatmonitor.*(?:watchdog|timed out|stuck)", Cause.nccl_timeout),
    (r"remote process exited or there was a network error", Cause.lost_peer),
    (r"ncclremoteerror", Cause.lost_peer),
    (r"nccl communicator was aborted", Cause.lost_peer),
    (r"got completion (?:from peer )?.*(?:status=|error )\d+", Cause.nccl),
    (r"unhandled (?:cuda|system) error", Cause.nccl),
    (r"nccl(?:system|internal|unhandledcuda|invalidusage|invalidargument)error", Cause.nccl),
    (r"no socket interface found|bootstrap : no socket interface", Cause.nccl),
    # Meeting the others. Before what merely lost them.
    (r"eaddrinuse", Cause.port),
    (r"address already in use", Cause.port),
    (r"timed out waiting \d+ ?ms for (?:recv|send)", Cause.hang),
    (r"application timeout caused pair closure", Cause.hang),
    (r"timed out waiting", Cause.hang),
    (r"connection (?:was likely )?closed", Cause.lost_peer),
    (r"connection reset by peer", Cause.lost_peer),
    (r"connection refused", Cause.lost_peer),
    (r"broken pipe", Cause.lost_peer),
    (r"socket (?:closed|timeout|error)", Cause.lost_peer),
    (r"(?:client|server) socket has (?:timed out|failed to connect)", Cause.lost_peer),
    (r"failed to recv, got 0 bytes", Cause.lost_peer),
    (r"no route to host|network is unreachable", Cause.lost_peer),
    # Limits of the system that a site sets.
    (r"too many open files|received 0 items of ancdata", Cause.config),
    (r"can't start new thread|pthread_create failed|resource temporarily unavailable", Cause.config),
    (r"permission denied", Cause.config),
    # Weights on disk.
    (r"error while deserializing header|invalidheader", Cause.checkpoint),
    (r"pytorchstreamreader failed", Cause.checkpoint),
)
"""Patterns over lower case, the most telling first."""

_COMPILED = tuple((re.compile(pattern), cause) for pattern, cause in TEXTS)
_WEAK = frozenset({Cause.lost_peer, Cause.config, Cause.hub, Cause.port})
"""Classes whose words stand in logs of healthy runs as well: no line of a log proves them."""


def classify_text(text: str) -> Cause | None:
    """The class that a text names; None where it names none."""
    lower = text.lower()
    return next((cause for pattern, cause in _COMPILED if pattern.search(lower)), None)


def telling_lines(lines: Iterable[str]) -> Iterator[tuple[str, Cause]]:
    """The lines of a log that name a class by words which no healthy run prints, with that class."""
    for line in lines:
        cause = classify_text(line)
        if cause is not None and cause not in _WEAK:
            yield line.strip(), cause
