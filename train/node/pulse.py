"""The talk of the agents while their ranks run: a word a second over node 0's store, by a thread.

A closed connection is noticed at once. A cut link or a node without power closes nothing: a question to the store then
waits without end, whatever its time limit says, and a rank in a collective as long as the collective may. So a thread
asks, over a connection of its own, and the agent looks only at what there is and at how long ago it came.
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from torch._C._distributed_c10d import Store

from train.node.data_step import NodeLostError

PERIOD_S = 1.0
READ_S = 5.0
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
        self._heard = dict.fromkeys(others, time.monotonic())
        self._counts: dict[int, bytes] = {}
        self._failed: int | None = None
        self._error = ""
        self._changed = threading.Condition()
        self._outgoing: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._words: dict[str, dict[int, str]] = {}
        self._facts: dict[str, bool] = {}
        threading.Thread(target=self._talk, daemon=True).start()

    def check(self) -> None:
        """Come back where all is well.

        Raises:
            NodeLostError: an agent has failed, node 0 has closed its store, or somebody is silent.
        """
        if self._failed is not None:
            raise NodeLostError(f"node {self._failed} ({self._hosts[self._failed]}) has failed")
        if self._error:
            raise NodeLostError(f"node 0 ({self._hosts[0]}) has closed the store: {self._error}")
        now = time.monotonic()
        silent = [node for node, heard in self._heard.items() if now - heard > self._silence_s]
        if silent:
            names = ", ".join(self._hosts[node] for node in silent)
            raise NodeLostError(
                f"{names} not heard for {self._silence_s:.0f} s: no power there, or the link between "
                f"{self._hosts[self._node]} and {names} is cut",
                silent,
            )

    def post(self, topic: str, text: str) -> None:
        """Tell the others something, at once; the newest word of a topic counts."""
        with self._changed:
            self._outgoing[word_key(topic, self._node)] = text
            self._changed.notify_all()

    def read(self, topic: str) -> dict[int, str]:
        """The agents' newest words on a topic, by node; those that said nothing are left out.

        Costs a request a node. Nothing where there is no answer within `READ_S`, as over a cut link.
        """
        with self._changed:
            self._words.pop(topic, None)
            self._wanted.add(topic)
            self._changed.notify_all()
            self._changed.wait_for(lambda: topic not in self._wanted or bool(self._error), READ_S)
            return self._words.get(topic, {})

    def declare(self, fact: str) -> None:
        """Let all know something that is the same whoever says it."""
        with self._changed:
            self._outgoing[fact_key(fact)] = "1"
            self._changed.notify_all()

    def declared(self, fact: str) -> bool:
        """Whether somebody has declared it, as was seen in the last second."""
        return self._facts.setdefault(fact, False)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is told, but no longer than `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._outgoing or bool(self._error), timeout_s)

    def _talk(self) -> None:
        count = 0
        try:
            while self._failed is None:
                count += 1
                self._store.set(_alive(self._node), str(count))
                self._tell()
                self._hear()
                with self._changed:
                    if not self._outgoing and not self._wanted:
                        self._changed.wait(PERIOD_S)
        except RuntimeError as error:
            self._error = str(error)

    def _tell(self) -> None:
        with self._changed:
            words = dict(self._outgoing)
        for key, text in words.items():
            self._store.set(key, text)
        with self._changed:
            self._outgoing = {key: text for key, text in self._outgoing.items() if text is not words.get(key)}
            self._changed.notify_all()

    def _hear(self) -> None:
        if self._node == 0:
            self._hear_all()
        else:
            self._heard[0] = time.monotonic()
        if self._store.check([FAILED]):
            self._failed = int(self._store.get(FAILED))
        for fact in list(self._facts):
            self._facts[fact] = self._facts[fact] or self._store.check([fact_key(fact)])
        for topic in list(self._wanted):
            keys = {node: word_key(topic, node) for node in range(len(self._hosts))}
            found = {node: self._store.get(key).decode() for node, key in keys.items() if self._store.check([key])}
            with self._changed:
                self._words[topic] = found
                self._wanted.discard(topic)
                self._changed.notify_all()

    def _hear_all(self) -> None:
        for node in self._heard:
            if not self._store.check([_alive(node)]):
                continue
            count = self._store.get(_alive(node))
            if count != self._counts.get(node) or self._store.check([done_key(node)]):
                self._counts[node] = count
                self._heard[node] = time.monotonic()


def done_key(node: int) -> str:
    """Key that is set when a node's agent has told how it ended."""
    return f"muster/done/{node}"


def fact_key(fact: str) -> str:
    """Key that is set once a fact was declared."""
    return f"muster/fact/{fact}"


def word_key(topic: str, node: int) -> str:
    """Key of a node's word on a topic."""
    return f"muster/{topic}/{node}"


def _alive(node: int) -> str:
    return f"muster/alive/{node}"
