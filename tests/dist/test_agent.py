"""Agents with real ranks over gloo: who failed is named truly, everything comes down, nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from conf.cause import all_failures, first_cause
from conf.files import read_objects
from conf.layout import RunFolder
from conf.outcome import AgentReport, Cause, Failure
from conf.record import Batch, Device, Layout, Plan, Topology, encode_plan, read_plan
from conf.schema import LimitsConfig, RunConfig
from train.node.last_words import read_failures, read_reports

pytestmark = pytest.mark.dist

DOWN_S = 10.0
"""FAULTS row 1: everything is down within this time. Used as a limit on waiting, not measured."""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def make_run(path: Path, start: str = "fork", nodes: int = 1, **limits_s: float) -> RunFolder:
    folder = RunFolder(path)
    config = RunConfig()
    config.health.limits_s = LimitsConfig(**limits_s)
    layout = Layout(Batch(2 * nodes, 4 * nodes, 1, 2), {})
    plan = Plan(
        run_id="test-00000000",
        run_dir=str(path),
        config=config,
        topology=Topology(nodes, 2, Device.cpu, start, 1),
        layouts={2 * nodes: layout},
        model_type="llama",
        parameters=None,
        packing="exact",
        export_at_end=False,
        expected_steps=None,
    )
    folder.run_json.write_text(encode_plan(plan))
    attempt = folder.attempt(0)
    for made in (attempt.logs, attempt.failures, attempt.agent_reports):
        made.mkdir(parents=True)
    attempt.job.write_text(json.dumps({"job": "test:1", "token": "of this attempt alone"}))
    return folder


@contextlib.contextmanager
def agent(
    folder: RunFolder, program: str, port: int, node: int = 0, nodes: int = 1, data: str = "pass"
) -> Iterator[subprocess.Popen[str]]:
    """An agent of a test program. Killed at the end of the block, where it still runs."""
    scratch = folder.path / f"scratch{node}"
    scratch.mkdir()
    environment = os.environ | {
        "MUSTER_RUN": str(folder.path),
        "MUSTER_ATTEMPT": "0",
        "MUSTER_NODES": str(nodes),
        "MUSTER_NODE_RANK": str(node),
        "MUSTER_HEAD": "127.0.0.1",
        "MUSTER_PORT": str(port),
        "MUSTER_SCRATCH": str(scratch),
        "MUSTER_JOB": "test:1",
        "MUSTER_HOSTS": " ".join(f"host{number}" for number in range(nodes)),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dist.rank_programs", "agent", str(folder.path), program, data],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(folder: RunFolder, program: str, port: int, **options: str) -> tuple[int, str]:
    with agent(folder, program, port, **options) as process:
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


def report_of(folder: RunFolder, node: int = 0) -> AgentReport:
    return msgspec.json.decode(folder.attempt(0).agent_report(node).read_bytes(), type=AgentReport)


def cause_of(folder: RunFolder) -> Failure:
    attempt = folder.attempt(0)
    cause = first_cause(all_failures(read_failures(attempt), read_reports(attempt)))
    assert cause is not None
    return cause


def await_files(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline, "the ranks did not start"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("start", ["fork", "exec"])
def test_fine_ranks(tmp_path: Path, port: int, start: str) -> None:
    folder = make_run(tmp_path, start)
    status, output = run(folder, "fine", port)
    assert status == 0, output
    report = report_of(folder)
    assert report.start == start
    assert [(end.rank, end.exit_status, end.signal) for end in report.exits] == [(0, 0, None), (1, 0, None)]
    for rank in (0, 1):
        assert folder.attempt(0).rank_log(0, rank).read_text().splitlines() == [
            "sum of ranks 1",
            "a word on standard error",
        ]
    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    assert [(event["event"], event["start"], event["world_size"]) for event in events] == [
        ("attempt_started", start, 2)
    ]


BROKEN = {
    "raises": ("raises", "fork", Cause.user_code, "ValueError: the loss went missing", 1, None),
    "raises exec": ("raises", "exec", Cause.user_code, "ValueError: the loss went missing", 1, None),
    "SIGKILL": ("killed", "fork", Cause.killed, "killed by SIGKILL", None, signal.SIGKILL),
    "SIGKILL exec": ("killed", "exec", Cause.killed, "killed by SIGKILL", None, signal.SIGKILL),
    "SIGSEGV": ("segfault", "fork", Cause.killed, "killed by SIGSEGV", None, signal.SIGSEGV),
    "exit status": ("exits", "fork", Cause.unknown, "exit status 3", 3, None),
    "peer deaf to SIGTERM": ("deaf", "fork", Cause.user_code, "ValueError: the loss went missing", 1, None),
}


@pytest.mark.parametrize(("program", "start", "cause", "message", "status", "number"), BROKEN.values(), ids=BROKEN)
def test_broken_rank_is_named(
    tmp_path: Path,
    port: int,
    program: str,
    start: str,
    cause: Cause,
    message: str,
    status: int | None,
    number: int | None,
) -> None:
    folder = make_run(tmp_path, start)
    with agent(folder, program, port) as process:
        await_files(tmp_path / "met-0", tmp_path / "met-1")
        output, _ = process.communicate(timeout=DOWN_S)
    assert process.returncode == 1, output
    failure = cause_of(folder)
    assert (failure.rank, failure.cause, failure.message) == (1, cause, message)
    ends = {end.rank: end for end in report_of(folder).exits}
    assert (ends[1].exit_status, ends[1].signal, ends[1].ended_by_agent) == (status, number, False)
    assert not alive(ends[0].pid)
    assert f"rank 1 on {socket.gethostname()} (node 0) failed: {cause.value}: {message}" in output
    if program == "raises":
        assert 'raise ValueError("the loss went missing")' in output
        assert 'raise ValueError("the loss went missing")' in failure.traceback


@pytest.mark.parametrize("start", ["fork", "exec"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_ranks_end_with_their_agent(tmp_path: Path, port: int, start: str, number: int) -> None:
    folder = make_run(tmp_path, start)
    marks = [tmp_path / f"met-{rank}" for rank in (0, 1)]
    with agent(folder, "lasts", port) as process:
        await_files(*marks)
        folder.stop.write_text("cancelled\n")  # without it the first SIGTERM in a job asks to save
        process.send_signal(number)
        process.wait(timeout=DOWN_S)
    deadline = time.monotonic() + DOWN_S
    pids = [int(mark.read_text()) for mark in marks]
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "ranks are left"
        time.sleep(0.05)
    if number == signal.SIGTERM:
        assert cause_of(folder).message == "the agent was told to end (SIGTERM)"
        assert all(end.ended_by_agent for end in report_of(folder).exits)


def test_taken_port(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path)
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        status, output = run(folder, "fine", port)
    assert status == 0, output
    used = json.loads(folder.attempt(0).data_ready.read_text())["port"]
    assert port < used <= port + 63


def test_data_step_that_fails(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2)
    with (
        agent(folder, "fine", port, node=1, nodes=2) as other,
        agent(folder, "fine", port, node=0, nodes=2, data="import sys; sys.exit(3)") as head,
    ):
        head_output, _ = head.communicate(timeout=60)
        other_output, _ = other.communicate(timeout=60)
    assert (head.returncode, other.returncode) == (1, 1)
    assert "the data step ended without a word: exit status 3" in head_output
    assert "node 0 (host0) failed: the data step ended without a word: exit status 3" in other_output
    assert (cause_of(folder).node, cause_of(folder).rank) == (0, -1)


def test_stop_before_the_ranks(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path)
    folder.stop.write_text("stopped\n")
    status, output = run(folder, "fine", port, data="import time; time.sleep(600)")
    assert status == 0, output
    assert "stop asked for before the ranks were started" in output
    assert report_of(folder).exits == []


def test_two_nodes(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2)
    with (
        agent(folder, "fine", port, node=1, nodes=2) as other,
        agent(folder, "fine", port, node=0, nodes=2) as head,
    ):
        outputs = [process.communicate(timeout=60)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (0, 0), outputs
    ends = report_of(folder, 0).exits + report_of(folder, 1).exits
    assert [(end.rank, end.exit_status) for end in ends] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert folder.attempt(0).rank_log(1, 3).read_text().startswith("sum of ranks 6\n")


def test_both_nodes_are_measured(tmp_path: Path, port: int) -> None:
    """Over the agents' own store, by node 0: least, mean and most, and which node is the worst."""
    folder = make_run(tmp_path, nodes=2)
    plan = read_plan(folder.run_json)
    plan.config.tracking.system_interval_s = 0.5
    folder.run_json.write_text(encode_plan(plan))
    with (
        agent(folder, "watched", port, node=1, nodes=2) as other,
        agent(folder, "watched", port, node=0, nodes=2) as head,
    ):
        outputs = [process.communicate(timeout=400)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (0, 0), outputs
    line = next(line for line in read_objects(folder.system) if line["nodes/count"] == 2)
    assert line["attempt"] == 0
    cpu = [line[f"nodes/cpu_percent/{end}"] for end in ("min", "mean", "max")]
    assert 0 <= cpu[0] <= cpu[1] <= cpu[2] <= 100
    assert set(line["worst"].values()) <= {"host0", "host1"}


def test_other_nodes_hear_of_a_failure(tmp_path: Path, port: int) -> None:
    folder = make_run(tmp_path, nodes=2)
    with (
        agent(folder, "cut_off", port, node=1, nodes=2) as other,
        agent(folder, "cut_off", port, node=0, nodes=2) as head,
    ):
        outputs = [process.communicate(timeout=60)[0] for process in (head, other)]
    assert (head.returncode, other.returncode) == (1, 1), outputs
    failure = cause_of(folder)
    assert (failure.rank, failure.node, failure.message) == (3, 1, "killed by SIGKILL")
    assert "node 1 (host1) has failed" in outputs[0]
