"""Where the agents of all nodes meet: a store on node 0, on a port that node 0 holds before it names it.

torchelastic's static rendezvous blocks in C++ for up to ten minutes and then says that something timed out. This one
waits in Python, so that SIGTERM ends it at once, names the nodes that are missing, and lets every agent hear within a
second that another node has failed: ranks in an NCCL collective would notice after ten minutes.
"""

from __future__ import annotations

import errno
import socket
import time
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo

from train.node.data_step import NodeLostError

PORTS_TRIED = 64
POLL_S = 0.2
LISTEN_S = 1.0
STORE_TIMEOUT = timedelta(seconds=60)
FAILED = "muster/failed"


def listen(port: int, tries: int = PORTS_TRIED) -> socket.socket:
    """A listening socket on `port`, or on the next one that is free.

    Raises:
        OSError: EADDRINUSE where `tries` ports in a row are taken.
    """
    for candidate in range(port, port + tries):
        listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
        try:
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", candidate))
            listener.listen(2048)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"ports {port} to {port + tries - 1} are all taken")


class Meeting(RendezvousHandler):
    """The rendezvous of one attempt, and the agents' word to each other until its end."""

    def __init__(
        self, head: str, port: int, node: int, hosts: list[str], timeout_s: float, listener: socket.socket | None
    ):
        """`hosts` names all nodes; `listener` is node 0's socket on `port`, None elsewhere.

        `met` becomes the time at which all had come, by this node's clock.
        """
        self._head = head
        self._port = port
        self._node = node
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._listener = listener
        self._store: Store | None = None
        self._next_listen = 0.0
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
        """Always 0. torchelastic asks ten times a second, which is when this looks for failed nodes.

        Raises:
            NodeLostError: an agent has failed, or node 0 is gone.
        """
        if len(self._hosts) > 1 and time.monotonic() >= self._next_listen:
            self._next_listen = time.monotonic() + LISTEN_S
            store = self._open_store()
            if self._has(FAILED):
                node = int(store.get(FAILED))
                raise NodeLostError(f"node {node} ({self._hosts[node]}) has failed")
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

    def leave(self, succeeded: bool, timeout_s: float = 600.0) -> None:
        """Tell the other agents how this node ended. Node 0 holds the store until all have told, or it has failed."""
        if self._store is None or len(self._hosts) == 1:
            return
        try:
            if not succeeded:
                self._store.set(FAILED, str(self._node))
            self._store.set(_done(self._node), "1")
            if self._node == 0:
                self._hold(timeout_s if succeeded else 3 * LISTEN_S)
        except (RuntimeError, NodeLostError) as error:
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
        while time.monotonic() < deadline and not self._has(*map(_done, range(len(self._hosts)))):
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


def _done(node: int) -> str:
    return f"muster/done/{node}"
