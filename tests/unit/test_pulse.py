"""The agents' pulse: a failure is heard, and a node that is silent without closing anything is named."""

from __future__ import annotations

import os
import select
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
AGENT = """
import sys, time
from torch.distributed import TCPStore
from train.node.data_step import NodeLostError
from train.node.pulse import Pulse
node, port = map(int, sys.argv[1:])
store = TCPStore("127.0.0.1", port, None, node == 0, wait_for_workers=False)
pulse = Pulse(store, node, ["n0", "n1"], 5.0)
print(store.port, flush=True)
while True:
    try:
        pulse.check()
    except NodeLostError as error:
        print(error, flush=True)
    time.sleep(0.1)
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


def test_agents_that_are_suspended_together_miss_nobody() -> None:
    """Slurm stops all processes of a job that it suspends; who is stopped alone is missed."""

    def started(node: int, port: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", AGENT, str(node), port]
        agent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        agents.append(agent)
        return agent

    def said(agent: subprocess.Popen[str], within_s: float) -> bool:
        return bool(select.select([agent.stdout], [], [], within_s)[0])

    agents: list[subprocess.Popen[str]] = []
    try:
        head = started(0, "0")
        assert head.stdout is not None
        other = started(1, head.stdout.readline().strip())
        assert other.stdout is not None
        other.stdout.readline()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for agent in agents:
                agent.send_signal(number)
            assert not said(head, within_s=7.0 if number is signal.SIGSTOP else 2.0)
        assert not said(other, within_s=0.0)
        other.send_signal(signal.SIGSTOP)
        assert said(head, within_s=LIMIT_S)
        assert "n1 not heard for 5 s" in head.stdout.readline()
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
            assert agent.stdout is not None
            agent.stdout.close()
