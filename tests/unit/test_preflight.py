"""The pre-flight: nvidia-smi's words, what is compared, nodes that meet over TCP, and which node is to blame."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from conf.node_ledger import STRONG, WEAK
from conf.outcome import AgentReport, Cause, Failure
from conf.preflight import Check, Preflight
from conf.schema import PreflightConfig
from train.node.blame import Blame, blamed, common_failures
from train.preflight.compare import compared
from train.preflight.gpus import Gpus, gpu_checks, parse_gpus
from train.preflight.meet import Host, visit
from train.preflight.wire import WireError, receive, send

SMI = """\
0, GPU-aa, NVIDIA H100 80GB HBM3, 550.54.15, 4, 0, No
1, GPU-bb, NVIDIA H100 80GB HBM3, 550.54.15, 30720, 3, [N/A]
2, GPU-cc, NVIDIA T4, 550.54.15, [N/A], [Not Supported], Yes
Unable to determine the device handle
"""
LIMITS = PreflightConfig()


def flight(node: int = 0, *checks: Check, **facts: Any) -> Preflight:
    return Preflight(node, f"n{node}", 0.0, 0.1, list(checks), facts)


def test_nvidia_smi_in_words() -> None:
    gpus = parse_gpus(SMI)
    assert [gpu.index for gpu in gpus] == ["0", "1", "2"]
    checks = {check.name: check for check in gpu_checks(Gpus(tuple(gpus)), 4, 2.0)}
    assert [name for name, check in checks.items() if not check.passed] == ["gpus", "ecc", "gpu_used"]
    assert checks["gpus"].in_words().startswith("gpus: 3 (NVIDIA H100 80GB HBM3, NVIDIA T4); has to be 4")
    assert (
        "GPU 1 GPU-bb: 3 uncorrected errors; GPU 2 GPU-cc: 0 uncorrected errors, retires pages" in checks["ecc"].found
    )
    assert checks["gpu_used"].found == "30.0 GiB in use"


@pytest.mark.parametrize(("broken", "passed"), [(True, False), (False, True)])
def test_a_driver_that_says_so_fails_and_one_that_is_not_there_does_not(broken: bool, passed: bool) -> None:
    (check,) = gpu_checks(Gpus(error="GPU is lost", broken=broken), 8, 2.0)
    assert check.passed is passed


def failed(nodes: Sequence[Preflight]) -> dict[str, list[str]]:
    return {node.host: [check.name for check in node.failed] for node in nodes if node.failed}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([{"versions": {"torch": "2.13"}}] * 3, {}),
        ([{"versions": {"torch": "2.12"}}, *[{"versions": {"torch": "2.13"}}] * 2], {"n0": ["versions"]}),
        ([{"python": "3.11"}, {"python": "3.12"}], {"n1": ["versions"]}),
        ([{"gpu_model": "H100"}] * 2 + [{"gpu_model": "A100"}], {"n2": ["gpu_model"]}),
        ([{}, {"clock_offset_s": -9.0}], {"n1": ["clock"]}),
        ([{}, {"clock_offset_s": 0.02, "link_mib_s": 900.0, "round_trip_ms": 0.1}], {}),
        ([{}, {"link_mib_s": 90.0, "round_trip_ms": 0.1}], {"n1": ["link"]}),
    ],
    ids=["same", "odd-one-out", "even-head-is-right", "gpu", "clock", "good-link", "slow-link"],
)
def test_compared(facts: list[dict[str, Any]], expected: dict[str, list[str]]) -> None:
    nodes = [flight(node, **found) for node, found in enumerate(facts)]
    assert failed(compared(nodes, replace(LIMITS, link_mib_s=500.0))) == expected


def test_a_difference_names_both_sides() -> None:
    nodes = [flight(0, versions={"torch": "2.13", "numpy": "2"}), flight(1, versions={"torch": "2.12", "numpy": "2"})]
    (check,) = compared(nodes, LIMITS)[1].failed
    assert check.in_words() == "versions: torch 2.12; the other nodes have torch 2.13"


def test_nodes_meet_and_strangers_do_not() -> None:
    """Somebody else holds the first port and says nothing: the next one it is, for the head node and for the others."""
    deadline = time.monotonic() + 30
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = int(silent.getsockname()[1])
        meet_beside(port, deadline)


def meet_beside(taken: int, deadline: float) -> None:
    host = Host(b"token", taken, 3, deadline)
    port = host.port
    assert port > taken
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
    found: dict[int, Preflight] = {}

    def come(node: int, token: bytes) -> None:
        found[node] = visit("127.0.0.1", "n0", taken, token, flight(node, python="3.11"), deadline)

    threads = [threading.Thread(target=come, args=(node, b"token")) for node in (1, 2)]
    for thread in threads:
        thread.start()
    judged = host.meet(flight(0, python="3.12"), lambda nodes: compared(nodes, LIMITS))
    for thread in threads:
        thread.join(10)
    assert [node.node for node in judged] == [0, 1, 2]
    assert failed(judged) == {"n0": ["versions"]}
    assert found[1] == judged[1]
    assert abs(found[2].facts["clock_offset_s"]) < 1.0
    assert found[2].facts["link_mib_s"] > 0


def test_a_wrong_token_is_no_guest() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, b"guessed", {"found": {}})
        with pytest.raises(WireError, match="not signed"):
            receive(ours, b"token")


def test_a_head_node_that_does_not_answer_is_a_cut_link() -> None:
    """Linux drops connections beyond a full backlog, as a cut link does. A refusal is an answer: the link is fine."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        port = int(silent.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            lost = visit("127.0.0.1", "n0", port, b"token", flight(1), time.monotonic() + 4)
    assert [check.name for check in lost.failed] == ["link"]
    assert "n1 does not reach n0 (127.0.0.1 is 127.0.0.1, a loopback address: see /etc/hosts" in lost.in_words()
    alone = visit("127.0.0.1", "n0", free_port(), b"token", flight(1), time.monotonic() + 1)
    assert (alone.failed, alone.met) == ([], False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def bad(name: str) -> Check:
    return Check(name, False, "too little", "has to be more")


def report(node: int, silent: Sequence[int] = ()) -> AgentReport:
    return AgentReport(node, f"h{node}", 0.0, 9.0, "fork", silent=list(silent))


def cause(cause: Cause, node: int = 1, message: str = "words") -> Failure:
    return Failure(node, node, f"h{node}", 5.0, cause, message)


GOOD = Check("gpus", True, "8")
HOSTS = ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("hosts", "failure", "reports", "flights", "down", "expected"),
    [
        (4, None, [], [flight(0, GOOD), flight(1, bad("gpus"))], {}, {"n1": (STRONG, True)}),
        (4, None, [], [flight(0, GOOD), flight(1, bad("scratch"))], {}, {"n1": (WEAK, True)}),
        (4, None, [], [flight(0, GOOD), flight(1, bad("gpu_model"))], {}, {"n1": (0, True)}),
        (4, None, [], [flight(0, bad("scratch")), flight(1, bad("scratch"))], {}, {}),
        (4, None, [], [flight(1, bad("link"))], {}, {"n1": (WEAK, True)}),
        (2, None, [], [flight(1, bad("link"))], {}, {"n1": (WEAK, True), "n0": (WEAK, False)}),
        (4, None, [], [flight(0, GOOD), flight(1, bad("link")), flight(2, bad("link"))], {}, {"n0": (WEAK, True)}),
        (4, None, [], [], {"n2": "DOWN* Not responding"}, {"n2": (WEAK, False)}),
        (2, Cause.lost_peer, [report(0)], [], {}, {"n1": (WEAK, False)}),
        (2, Cause.lost_peer, [report(0, [1]), report(1, [0])], [], {}, {"n0": (WEAK, False), "n1": (WEAK, False)}),
        (4, Cause.lost_peer, [report(0, [1]), report(1, [0]), report(2), report(3)], [], {}, {"n1": (WEAK, False)}),
        (3, Cause.lost_peer, [report(0), report(1, [0]), report(2, [0])], [], {}, {"n0": (WEAK, False)}),
        (4, Cause.gpu, [], [], {}, {"n1": (WEAK, False)}),
        (4, Cause.killed, [], [], {}, {"n1": (WEAK, False)}),
        (4, Cause.cuda_oom, [], [], {}, {}),
        (4, Cause.user_code, [report(0)], [], {}, {}),
    ],
    ids=[
        "hardware", "surroundings", "another-model", "all-alike", "link", "link-of-two", "link-of-the-head", "down",
        "agent-gone", "link-cut", "link-cut-of-four", "head-unplugged", "gpu", "killed", "cuda-oom", "user-code",
    ],
)  # fmt: skip
def test_blame(
    hosts: int,
    failure: Cause | None,
    reports: list[AgentReport],
    flights: list[Preflight],
    down: dict[str, str],
    expected: dict[str, tuple[int, bool]],
) -> None:
    found = blamed(HOSTS[:hosts], cause(failure) if failure else None, reports, flights, down)
    assert {blame.node: (blame.weight, blame.unfit) for blame in found} == expected


def test_an_uncorrectable_error_leaves_no_doubt() -> None:
    (found,) = blamed(HOSTS, cause(Cause.gpu, 2, "CUDA error: uncorrectable ECC error encountered"), [], [], {})
    assert found == Blame("n2", "gpu", "rank 2: CUDA error: uncorrectable ECC error encountered", STRONG)


def test_what_all_fail_is_said() -> None:
    assert common_failures([flight(0, bad("shm")), flight(1, bad("shm"), bad("clock"))]) == [
        "shm: too little; has to be more"
    ]
    assert common_failures([flight(0, bad("shm"))]) == []
