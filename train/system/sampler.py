"""A thread of each node's agent that looks at the node now and then; node 0 writes what all saw to system.jsonl.

Figures travel over the agents' store, on a connection of their own: one that waits on a cut link keeps nobody waiting.
Started after the ranks were forked, since a fork takes no threads along. It costs about a millisecond a look.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec
from torch._C._distributed_c10d import Store

from train.metrics.lines import Lines
from train.node.node import Node
from train.system.compare import side_by_side
from train.system.counters import Counters
from train.system.gpus import GpuMeter

FIRST_S = 2.0
"""The first look comes early, so that short runs have one."""
LEAVE_S = 3.0
"""Longest that the end waits for a question to the store, which over a cut link has no answer."""
STALE = 2.5
"""A node that said nothing new for so many intervals is left out."""


class Sampler:
    """Looks at this node from `start` until the end of a `with`."""

    def __init__(
        self, node: int, hosts: list[str], interval_s: float, scratch: Path, attempt: int, lines: Lines
    ) -> None:
        self._node = node
        self._hosts = hosts
        self._interval_s = interval_s
        self._scratch = scratch
        self._attempt = attempt
        self._lines = lines
        self._store: Store | None = None
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A thread that is inside the store when Python ends would end the process by SIGABRT: it is waited for."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def start(self, store: Store | None) -> None:
        """`store` is a connection for this thread alone; None where the node is alone."""
        self._store = store
        if self._interval_s > 0:
            self._thread.start()

    def _sample(self) -> None:
        counters, gpus = Counters(self._scratch), GpuMeter(os.environ.get("CUDA_VISIBLE_DEVICES"))
        pause_s = min(FIRST_S, self._interval_s)
        try:
            while not self._leaving.wait(pause_s):
                pause_s = self._interval_s
                self._pass_on({**counters.look(), **gpus.look()})
        except RuntimeError:
            return  # the store is gone with node 0, as the agent itself will notice
        except (OSError, ValueError) as error:
            # This kernel counts otherwise: nothing that ends a run.
            print(f"muster: node {self._node} measures its system no longer: {error}", flush=True)

    def _pass_on(self, look: Mapping[str, float]) -> None:
        if self._node == 0:
            looks = {self._hosts[0]: look} | {self._hosts[node]: other for node, other in self._others().items()}
            line = {"time": round(time.time(), 3), "attempt": self._attempt, **side_by_side(looks)}
            self._lines.append(msgspec.json.encode(line))
        elif self._store is not None:
            self._store.set(_key(self._node), msgspec.json.encode({"time": time.time(), **look}).decode())

    def _others(self) -> dict[int, dict[str, float]]:
        """The newest looks of the other nodes, of those that still look."""
        if self._store is None:
            return {}
        looks, now = {}, time.monotonic()
        for node in range(1, len(self._hosts)):
            if not self._store.check([_key(node)]):
                continue
            text = self._store.get(_key(node))
            before, since = self._heard.get(node, (b"", now))
            self._heard[node] = (text, since if text == before else now)
            if now - self._heard[node][1] < STALE * self._interval_s:
                looks[node] = msgspec.json.decode(text, type=dict[str, float])
                del looks[node]["time"]
        return looks


def sampler_of(node: Node) -> Sampler:
    """The sampler of a node in an attempt; none of its threads runs yet."""
    environment, tracking = node.environment, node.plan.config.tracking
    interval_s = tracking.system_interval_s
    return Sampler(
        environment.node, node.hosts, interval_s, environment.scratch, environment.attempt, Lines(node.folder.system)
    )


def _key(node: int) -> str:
    return f"muster/system/{node}"
