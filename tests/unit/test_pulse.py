"""The agents' pulse: a failure is heard, and a node that is silent without closing anything is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from torch.distributed import TCPStore

from train.node.data_step import NodeLostError
from train.node.pulse import FAILED, Pulse

HOSTS = ["n0", "n1"]
LIMIT_S = 60.0
HEAD = """
import sys, time
from torch.distributed import TCPStore
from train.node.pulse import Pulse
store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
pulse = Pulse(store, 0, ["n0", "n1"], 600.0)
print(store.port, flush=True)
time.sleep(600)
"""


def wait_for(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def raises(pulse: Pulse) -> str:
    """What the pulse raises, once it does."""
    said: list[NodeLostError] = []

    def lost() -> bool:
        try:
            pulse.check()
        except NodeLostError as error:
            said.append(error)
        return bool(said)

    wait_for(lost)
    return f"{said[0]} {said[0].nodes}"


def test_a_failure_is_heard() -> None:
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    head, other = Pulse(store, 0, HOSTS, 60.0), Pulse(store, 1, HOSTS, 60.0)
    head.check()
    store.set(FAILED, "1")
    assert "node 1 (n1) has failed" in raises(head)
    assert "node 1 (n1) has failed" in raises(other)


def test_node_0_misses_a_node_that_says_nothing() -> None:
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    head = Pulse(store, 0, HOSTS, 1.5)
    assert "n1 not heard for 2 s: no power there, or the link between n0 and n1 is cut [1]" in raises(head)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSTOP, "n0 not heard for 2 s: no power there, or the link between n1 and n0 is cut [0]"),
        (signal.SIGKILL, "node 0 (n0) has closed the store"),
    ],
    ids=["silent", "closed"],
)
def test_a_node_misses_node_0(number: signal.Signals, words: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HEAD], stdout=subprocess.PIPE, text=True) as head:
        assert head.stdout is not None
        try:
            store = TCPStore("127.0.0.1", int(head.stdout.readline()), None, False, wait_for_workers=False)
            pulse = Pulse(store, 1, HOSTS, 2.0 if number is signal.SIGSTOP else LIMIT_S)
            pulse.check()
            os.kill(head.pid, number)
            assert words in raises(pulse)
        finally:
            head.kill()
