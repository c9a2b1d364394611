"""Whether the other agents are there while the ranks run: a word a second over node 0's store, by a thread.

A closed connection is noticed at once. A cut link or a node without power closes nothing: a question to the store then
waits without end, whatever its time limit says, and a rank in a collective as long as the collective may. So a thread
asks, over a connection of its own, and the agent looks only at how long ago there was an answer, by a clock that stands
still while the job is suspended.
"""

from __future__ import annotations

import threading
from typing import Any, cast

from torch._C._distributed_c10d import Store

from train.node.data_step import NodeLostError
from train.node.patient import Clock

PERIOD_S = 1.0
LEAVE_S = 2.0
"""Longest that the end waits for a question to the store, which over a cut link has no answer."""
FAILED = "muster/failed"
"""Key that holds the number of a node whose agent has failed."""


class Pulse:
    """Hears the others from now on. Started after the ranks were forked, since a fork takes no threads along.

    Node 0 hears all others, they hear node 0.
    """

    def __init__(self, store: Store, node: int, hosts: list[str], silence_s: float):
        self._store = cast("Store", cast("Any", store).clone())  # torch's stubs do not know it
        self._node = node
        self._hosts = hosts
        self._silence_s = silence_s
        others = range(1, len(hosts)) if node == 0 else range(1)
        self._quiet_s = dict.fromkeys(others, 0.0)
        self._clock = Clock()
        self._counts: dict[int, bytes] = {}
        self._failed: int | None = None
        self._error = ""
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Come back where all is well.

        Raises:
            NodeLostError: an agent has failed, node 0 has closed its store, or somebody is silent.
        """
        if self._failed is not None:
            raise NodeLostError(f"node {self._failed} ({self._hosts[self._failed]}) has failed")
        if self._error:
            raise NodeLostError(f"node 0 ({self._hosts[0]}) has closed the store: {self._error}")
        passed_s = self._clock.passed() or 0.0
        for node in self._quiet_s:
            self._quiet_s[node] += passed_s
        silent = [node for node, quiet_s in self._quiet_s.items() if quiet_s > self._silence_s]
        if silent:
            names = ", ".join(self._hosts[node] for node in silent)
            raise NodeLostError(
                f"{names} not heard for {self._silence_s:.0f} s: no power there, or the link between "
                f"{self._hosts[self._node]} and {names} is cut",
                silent,
            )

    def leave(self) -> None:
        """Hear nobody any more. A thread that is inside the store when Python ends would end it by SIGABRT."""
        self._leaving.set()
        self._thread.join(LEAVE_S)

    def _listen(self) -> None:
        count = 0
        try:
            while self._failed is None:
                count += 1
                self._store.set(_alive(self._node), str(count))
                if self._node == 0:
                    self._hear_all()
                else:
                    self._quiet_s[0] = 0.0
                if self._store.check([FAILED]):
                    self._failed = int(self._store.get(FAILED))
                if self._leaving.wait(PERIOD_S):
                    return
        except RuntimeError as error:
            self._error = str(error)

    def _hear_all(self) -> None:
        for node in self._quiet_s:
            if not self._store.check([_alive(node)]):
                continue
            count = self._store.get(_alive(node))
            if count != self._counts.get(node) or self._store.check([done_key(node)]):
                self._counts[node] = count
                self._quiet_s[node] = 0.0


def done_key(node: int) -> str:
    """Key that is set when a node's agent has told how it ended."""
    return f"muster/done/{node}"


def _alive(node: int) -> str:
    return f"muster/alive/{node}"
