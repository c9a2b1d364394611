"""Where the agents of all nodes meet: a store on node 0, on a port that node 0 holds before it names it.

torchelastic's static rendezvous blocks in C++ for up to ten minutes and then says that something timed out. This one
waits in Python, so that SIGTERM ends it at once, names the nodes that are missing, and lets every agent hear within a
second that another node has failed: ranks in an NCCL collective would notice after ten minutes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from datetime import timedelta
from typing import Any, cast

from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo

from train.node.data_step import NodeLostError
from train.node.pulse import FAILED, Pulse, done_key

POLL_S = 0.2
STORE_TIMEOUT = timedelta(seconds=60)
HOLD_S = 3.0
"""How long a failed node 0 keeps the store up, so that the others hear of it."""
TELL_S = 5.0
"""Longest that an agent tries to tell the others of its end: over a cut link that takes for ever."""


class Meeting(RendezvousHandler):
    """The rendezvous of one attempt, and the agents' word to each other until its end."""

    def __init__(
        self,
        head: str,
        port: int,
        node: int,
        hosts: list[str],
        timeout_s: float,
        silence_s: float,
        listener: socket.socket | None,
    ):
        """`hosts` names all nodes; `listener` is node 0's socket on `port`, None elsewhere.

        `met` becomes the time at which all had come, by this node's clock.
        """
        self._head = head
        self._port = port
        self._node = node
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._listener = listener
        self._store: Store | None = None
        self._pulse: Pulse | None = None
        self.met: float | None = None

    @property
    def use_agent_store(self) -> bool:
        """The ranks use this store too: no second port."""
        return True

    def get_backend(self) -> str:
        return "static"

    def get_run_id(self) -> str:
        return "muster"

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """Nothing to do: an attempt meets once."""

    def shutdown(self) -> bool:
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Open the store and wait until every node has come.

        Raises:
            NodeLostError: node 0 cannot be reached, or nodes are missing, after the time allowed.
        """
        deadline = time.monotonic() + self._timeout_s
        self._store = self._open(deadline)
        self._store.set(_arrived(self._node), "1")
        self._wait_for_all(deadline)
        self.met = time.time()
        meeting_point = RendezvousStoreInfo(self._head, self._port)
        return RendezvousInfo(self._store, self._node, len(self._hosts), meeting_point)

    def num_nodes_waiting(self) -> int:
        """Always 0. torchelastic asks ten times a second, which is when this looks for failed and silent nodes.

        Raises:
            NodeLostError: an agent has failed, or a node is gone.
        """
        if len(self._hosts) > 1:
            if self._pulse is None:
                self._pulse = Pulse(self._open_store(), self._node, self._hosts, self._silence_s)
            self._pulse.check()
        return 0

    def post(self, topic: str, text: str) -> None:
        """Tell the other agents something; the newest word of a topic counts.

        Raises:
            NodeLostError: node 0 is gone.
        """
        try:
            self._open_store().set(_word(topic, self._node), text)
        except RuntimeError as error:
            raise NodeLostError(f"node 0 ({self._hosts[0]}) has closed the store: {error}") from error

    def read(self, topic: str) -> dict[int, str]:
        """What the agents said of a topic, by node; those that said nothing are left out. Costs a request a node.

        Raises:
            NodeLostError: node 0 is gone.
        """
        told = [node for node in range(len(self._hosts)) if self._has(_word(topic, node))]
        return {node: self._open_store().get(_word(topic, node)).decode() for node in told}

    def declare(self, fact: str) -> None:
        """Let all agents know something that is the same whoever says it.

        Raises:
            NodeLostError: node 0 is gone.
        """
        try:
            self._open_store().set(_fact(fact), "1")
        except RuntimeError as error:
            raise NodeLostError(f"node 0 ({self._hosts[0]}) has closed the store: {error}") from error

    def declared(self, fact: str) -> bool:
        """Whether somebody declared it.

        Raises:
            NodeLostError: node 0 is gone.
        """
        return self._has(_fact(fact))

    def own_line(self) -> Store | None:
        """A further connection to the store, for a thread of its own; None where the node is alone."""
        alone = self._store is None or len(self._hosts) == 1
        return None if alone else cast("Store", cast("Any", self._store).clone())  # torch's stubs do not know it

    def leave(self, succeeded: bool, timeout_s: float = 600.0) -> None:
        """Tell the other agents how this node ended. Node 0 holds the store until all have told, or it has failed."""
        if self._store is None or len(self._hosts) == 1:
            return
        teller = threading.Thread(target=self._tell, args=(self._store, succeeded), daemon=True)
        teller.start()
        teller.join(TELL_S)
        if self._node == 0:
            with contextlib.suppress(NodeLostError):
                self._hold(timeout_s if succeeded else HOLD_S)
        if self._pulse is not None:
            self._pulse.leave()

    def _tell(self, store: Store, succeeded: bool) -> None:
        try:
            if not succeeded:
                store.set(FAILED, str(self._node))
            store.set(done_key(self._node), "1")
        except RuntimeError as error:
            print(f"node {self._node}: the other nodes were not told of its end: {error}", flush=True)

    def _open(self, deadline: float) -> Store:
        if self._listener is not None:
            return self._store_at(listen_descriptor=self._listener.detach())
        while True:
            try:
                return self._store_at(listen_descriptor=None)
            except RuntimeError as error:
                if time.monotonic() > deadline:
                    where = f"{self._head}:{self._port}"
                    raise NodeLostError(f"node 0 ({self._hosts[0]}) cannot be reached at {where}: {error}") from error
                time.sleep(POLL_S)

    def _store_at(self, listen_descriptor: int | None) -> Store:
        store = TCPStore(
            host_name=self._head,
            port=self._port,
            world_size=None,
            is_master=listen_descriptor is not None,
            timeout=timedelta(seconds=5),
            wait_for_workers=False,
            master_listen_fd=listen_descriptor,
        )
        store.set_timeout(STORE_TIMEOUT)
        return store

    def _wait_for_all(self, deadline: float) -> None:
        nodes = range(len(self._hosts))
        while not self._has(*map(_arrived, nodes)):
            if time.monotonic() > deadline:
                missing = [f"{node} ({self._hosts[node]})" for node in nodes if not self._has(_arrived(node))]
                raise NodeLostError(
                    f"waited {self._timeout_s:.0f} s for node {', '.join(missing)}, whose agent did not come"
                )
            time.sleep(POLL_S)

    def _hold(self, timeout_s: float) -> None:
        """Keep the store up for agents that still listen."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self._has(*map(done_key, range(len(self._hosts)))):
            time.sleep(POLL_S)

    def _open_store(self) -> Store:
        if self._store is None:
            raise NodeLostError("the nodes have not met")
        return self._store

    def _has(self, *keys: str) -> bool:
        try:
            return self._open_store().check(list(keys))
        except RuntimeError as error:
            raise NodeLostError(f"node 0 ({self._hosts[0]}) has closed the store: {error}") from error


def _arrived(node: int) -> str:
    return f"muster/arrived/{node}"


def _fact(fact: str) -> str:
    return f"muster/fact/{fact}"


def _word(topic: str, node: int) -> str:
    return f"muster/{topic}/{node}"
