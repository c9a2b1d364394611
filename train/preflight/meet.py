"""The pre-flights of all nodes meet at the head node's: link, clock and what has to be the same on all of them.

    node → head   its own findings
    head → node   pings (time there and back, clock), a few MiB to send (bandwidth), and in the end its whole pre-flight

Nobody waits for a shared folder here. A node that is late misses the comparison and is not judged for it; one that
finds no way to the head node is.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from conf.preflight import Check, Preflight
from train.node.port import listen
from train.preflight.wire import WireError, receive, send, swallow

PORTS = 8
"""The head node listens on the first free of as many ports from the attempt's own on."""
PINGS = 5
BANDWIDTH_BYTES = 4 << 20
CONNECT_S = 3.0
UNREACHABLE_S = 10.0
"""Without any answer of the head node for as long, there is no way to it."""
PAUSE_S = 0.2

Judge = Callable[[Sequence[Preflight]], list[Preflight]]


@dataclass
class _Guest:
    """A node that came: what it found and, in the end, what is sent back."""

    found: Preflight
    judged: Preflight | None = None


class Host:
    """The head node's side. Listens from the start on, so that nodes that are faster find it."""

    def __init__(self, token: bytes, port: int, nodes: int, deadline: float):
        self._token = token
        self._deadline = deadline
        self._missing = nodes - 1
        self._guests: dict[int, _Guest] = {}
        self._changed = threading.Condition()
        self._measuring = threading.Lock()
        self._over = threading.Event()
        self._listener = listen(port, PORTS)
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def meet(self, own: Preflight, judge: Judge) -> list[Preflight]:
        """Wait for all nodes, or the deadline; every node that came, judged, this one first."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._guests) >= self._missing, max(0.0, self._left()))
            guests = [self._guests[node] for node in sorted(self._guests)]
        judged = judge([own, *(guest.found for guest in guests)])
        for guest, result in zip(guests, judged[1:], strict=True):
            guest.judged = result
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads[1:]:
            thread.join(2.0)
        return judged

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(max(0.1, self._left()))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                send(connection, self._token, {"hello": "muster"})
                found = msgspec.convert(receive(connection, self._token)["found"], Preflight)
                with self._measuring:  # one after the other, so that each has the link to itself
                    found = found.having(**_measure(connection, self._token))
                guest = _Guest(found)
                with self._changed:
                    self._guests[found.node] = guest
                    self._changed.notify_all()
                self._over.wait(max(0.0, self._left()) + 2.0)
                if guest.judged is not None:
                    send(connection, self._token, {"judged": msgspec.to_builtins(guest.judged)})
        except (OSError, ValueError, KeyError, msgspec.ValidationError):
            return  # a stranger, or a node that has gone: it misses the comparison

    def _left(self) -> float:
        return self._deadline - time.monotonic()


def visit(head: str, host: str, port: int, token: bytes, own: Preflight, deadline: float) -> Preflight:
    """The other nodes' side: this node's pre-flight with what the head node has seen of it."""
    unreachable_from = time.monotonic()
    seen = "no answer"
    while time.monotonic() < deadline:
        for candidate in range(port, port + PORTS):
            try:
                return _visit_once(head, candidate, token, own, deadline)
            except WireError:
                unreachable_from = time.monotonic()  # somebody there, but not ours, or not any more
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:  # the head node's own word: the link is fine
                    unreachable_from = time.monotonic()
                    continue
                seen = str(error)
                break
        if time.monotonic() - unreachable_from > UNREACHABLE_S:
            break
        time.sleep(PAUSE_S)
    if time.monotonic() - unreachable_from > min(UNREACHABLE_S, CONNECT_S):
        words = f"{own.host} does not reach {host} ({_address(head)}, port {port}): {seen}"
        own = own.having(Check("link", False, words, "has to be reachable"))
    return replace(own, met=False)


def _visit_once(head: str, port: int, token: bytes, own: Preflight, deadline: float) -> Preflight:
    with socket.create_connection((head, port), timeout=CONNECT_S) as connection:
        try:
            return _answer(connection, token, own, deadline)
        except OSError as error:
            raise WireError(f"somebody else on port {port}: {error}") from error


def _answer(connection: socket.socket, token: bytes, own: Preflight, deadline: float) -> Preflight:
    """Do what the head node asks for, until it says what it thinks."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    receive(connection, token)
    send(connection, token, {"found": msgspec.to_builtins(own)})
    while True:
        connection.settimeout(max(0.1, deadline - time.monotonic()) + 2.0)
        asked = receive(connection, token)
        if "ping" in asked:
            send(connection, token, {"time": time.time()})
        elif "bytes" in asked:
            connection.sendall(bytes(min(int(asked["bytes"]), BANDWIDTH_BYTES)))
        elif "judged" in asked:
            return msgspec.convert(asked["judged"], Preflight)


def _measure(connection: socket.socket, token: bytes) -> dict[str, float]:
    """Round trip, clock of the node against this one's (by the fastest ping), bandwidth from it."""
    trips = []
    for number in range(PINGS):
        begun, wall = time.monotonic(), time.time()
        send(connection, token, {"ping": number})
        said = float(receive(connection, token)["time"])
        trip = time.monotonic() - begun
        trips.append((trip, said - (wall + trip / 2)))
    trip, offset = min(trips)
    send(connection, token, {"bytes": BANDWIDTH_BYTES})
    begun = time.monotonic()
    swallow(connection, BANDWIDTH_BYTES)
    bandwidth = BANDWIDTH_BYTES / 2**20 / max(1e-6, time.monotonic() - begun)
    return {
        "round_trip_ms": round(trip * 1000, 3),
        "clock_offset_s": round(offset, 4),
        "link_mib_s": round(bandwidth, 1),
    }


def _address(head: str) -> str:
    """The head node's address as this node resolves it; a loopback one is the usual mistake in /etc/hosts."""
    try:
        address = str(socket.getaddrinfo(head, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        return f"{head}: {error}"
    loopback = address.startswith("127.") or address == "::1"
    return f"{head} is {address}" + (", a loopback address: see /etc/hosts of this node" if loopback else "")
