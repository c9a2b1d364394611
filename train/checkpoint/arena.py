"""A rank's copy of what it saves: host memory that is kept from save to save and that the writer maps as well.

It belongs to no file system and is gone with the two processes, however they end. On a GPU it is pinned, so that
copying runs at the speed of the bus and need not wait for each tensor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import mmap
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from train.checkpoint.jobs import Span
from train.host_memory import free_host_bytes

STEP = 1 << 22
"""The size is a multiple of this many bytes."""
SHARE = 0.8
"""The copies of a node's ranks take at most this share of the memory that is free."""
ALIGNMENT = 64
TOUCHED = 1 << 26
"""Bytes of new memory that are taken from the system at a time."""
PART = 1 << 24
"""Bytes that are worth a thread of their own while they are copied."""
PORTABLE = 1
"""`cudaHostRegisterPortable`: pinned for every context of the process."""


class NoRoomError(OSError):
    """The host's memory does not hold a second copy of what is saved."""


@dataclass(frozen=True)
class _Mapping:
    memory: mmap.mmap
    address: int
    size: int


class Arena:
    """Memory that grows to what one save needs.

    Attributes:
        descriptor: of the memory, for another process to map; -1 where there can be none.
        size: bytes there are.
    """

    def __init__(self, device: torch.device, ranks_on_node: int = 1):
        self.descriptor = -1
        with contextlib.suppress(OSError):  # where the system has none, nothing fits
            self.descriptor = os.memfd_create("muster-checkpoint", os.MFD_CLOEXEC)
        self.size = 0
        self._device = device
        self._ranks = max(1, ranks_on_node)
        self._used = 0
        self._mapping: _Mapping | None = None
        self._pinned: list[int] = []
        self._preparing: threading.Thread | None = None

    def prepare(self, size: int) -> None:
        """Take memory beside the training: the first save would stand still for it, longer than for the copying."""

        def grow() -> None:
            with contextlib.suppress(OSError):  # the save itself meets it again, and says so
                self._grow(size)

        self._preparing = threading.Thread(target=grow, name="checkpoint-memory", daemon=True)
        self._preparing.start()

    def begin(self) -> None:
        """Forget the last save's content; the memory stays."""
        if self._preparing is not None:
            self._preparing.join()
            self._preparing = None
        self._used = 0

    def place(self, length: int) -> Span:
        """Room for `length` bytes.

        Raises:
            NoRoomError: the host has not as much memory left.
        """
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if start + length > self.size:
            self._grow(start + length)
        self._used = start + length
        return Span(start, length)

    def append(self, content: memoryview) -> Span:
        """Copy bytes behind the last ones, without a gap."""
        span = Span(self._used, content.nbytes)
        if span.end > self.size:
            self._grow(span.end)
        self._used = span.end
        if self._mapping is not None:
            self._mapping.memory[span.start : span.end] = content
        return span

    def copy(self, span: Span, address: int) -> None:
        """Copy host memory into a span, with as many threads as torch computes with.

        By libc, whose stores pass the caches by: torch's own copy reads what it is about to overwrite, and took 0.18
        seconds of a processor for each GB where this takes 0.11.
        """
        if self._mapping is None:
            raise ValueError("nothing has been placed")
        target = self._mapping.address + span.start
        parts = max(1, min(torch.get_num_threads(), span.length // PART))
        if parts == 1:
            ctypes.memmove(target, address, span.length)
            return
        bounds = itertools.pairwise(span.length * part // parts for part in range(parts + 1))
        with ThreadPoolExecutor(parts, "checkpoint-copy") as pool:  # memmove lets go of the interpreter
            list(pool.map(lambda part: ctypes.memmove(target + part[0], address + part[0], part[1] - part[0]), bounds))

    def bytes_at(self, span: Span) -> torch.Tensor:
        """The bytes of a span that has any, as a tensor on them."""
        if self._mapping is None:
            raise ValueError("nothing has been placed")
        return torch.frombuffer(self._mapping.memory, dtype=torch.uint8, offset=span.start, count=span.length)

    def finish(self) -> None:
        """Wait for copies from a GPU."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def close(self) -> None:
        """Give the memory back."""
        self.begin()
        self._unpin()
        self._mapping = None
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def _grow(self, least: int) -> None:
        size = -(-least // STEP) * STEP
        if size <= self.size:
            return
        room = int(free_host_bytes() * SHARE) // self._ranks if self.descriptor >= 0 else 0
        if size - self.size > room:
            words = f"a second copy of {least / 1e9:.1f} GB does not fit: {room / 1e9:.1f} GB are free for this rank"
            raise NoRoomError(errno.ENOMEM, words)
        self.finish()
        self._unpin()
        os.ftruncate(self.descriptor, size)
        memory = mmap.mmap(self.descriptor, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for start in range(self.size, size, TOUCHED):
            ctypes.memset(address + start, 0, min(TOUCHED, size - start))
        self._mapping = _Mapping(memory, address, size)
        self.size = size
        self._pin()

    def _pin(self) -> None:
        if self._device.type != "cuda" or self._mapping is None:
            return
        torch.cuda.set_device(self._device)  # of this thread
        runtime: Any = torch.cuda
        if int(runtime.cudart().cudaHostRegister(self._mapping.address, self._mapping.size, PORTABLE)) == 0:
            self._pinned.append(self._mapping.address)

    def _unpin(self) -> None:
        runtime: Any = torch.cuda
        while self._pinned:
            runtime.cudart().cudaHostUnregister(self._pinned.pop())
