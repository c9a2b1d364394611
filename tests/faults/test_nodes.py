"""Rows 5, 6, 19 and 26: nodes that die, fail again or are unfit, taken ports, cut links. All on a real Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from slurm import devcluster as cluster
from slurm.devcluster import Record
from slurm.devcluster.network import namespace_path
from slurm.devcluster.record import read_record
from tests.faults.local_runs import weights
from tests.slurm.live import (
    TWO_NODES,
    decision,
    job_of,
    lines,
    metrics,
    outcome,
    start_now,
    submit,
    wait_for,
    wait_for_end,
    wait_for_step,
)
from tests.slurm.person import Person

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root breaks nodes and networks"),
]

STEPS = 120
EVERY = 10
QUEUED_AGAIN_S = 40.0
"""The table's mark: a run whose node died is back in the queue within this time."""
PORT_FIRST, PORT_COUNT = 15000, 16000
RUN = [*TWO_NODES, f"train.max_steps={STEPS}", f"checkpoint.save_steps={EVERY}"]


@pytest.fixture(scope="module")
def whole(person: Person, devcluster: Record) -> RunFolder:
    """A run that nothing disturbed."""
    folder, _ = submit(person, person.home, *RUN, "name=undisturbed")
    wait_for_end(folder, "done")
    return folder


@pytest.fixture(autouse=True)
def mended(devcluster: Record) -> Iterator[None]:
    """Whatever a test broke is whole again afterwards."""
    yield
    state = Path(devcluster.folder)
    cluster.mend_link(*devcluster.node_names(), folder=state)
    for name in devcluster.node_names():
        cluster.restore_node(name, folder=state)


def hosts_of(folder: RunFolder, attempt: int) -> list[str]:
    wait_for(folder.attempt(attempt).hosts.exists, folder, f"attempt {attempt}")
    return folder.attempt(attempt).hosts.read_text().split()


def events(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    return [event for event in lines(folder.events) if event["event"] == name]


def ledger(person: Person, folder: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """The notes of this run in the ledger, by node, as the person sees them."""
    said = json.loads(person.muster("nodes", "cluster=devcluster", "--json"))
    notes = {one["node"]: [note for note in one["notes"] if note["run"] == folder.path.name] for one in said}
    return {node: found for node, found in notes.items() if found}


def queued_again(person: Person, job: int, folder: RunFolder) -> None:
    def pending() -> bool:
        return person.run("squeue", "-h", "-j", str(job), "-o", "%T").stdout.strip() == "PENDING"

    wait_for(pending, folder, "the queue again")


def measure(folder: RunFolder, figures: dict[str, Any], attempt: int) -> None:
    """Steps lost between the attempts before and one that trains again, and how long that took to its first step."""
    before = max(line["step"] for line in metrics(folder) if line["attempt"] < attempt and "train/loss" in line)
    again = next(line for line in metrics(folder) if line["attempt"] == attempt and "train/loss" in line)
    assert again["step"] % EVERY == 1, "it went on from a checkpoint"
    figures["again_s"] = round(again["time"] - json.loads(folder.attempt(attempt).job.read_text())["time"], 1)
    figures["steps_lost"] = before - again["step"] + 1
    assert figures["steps_lost"] <= EVERY + 1


@contextlib.contextmanager
def port_taken(record: Record, node: str, port: int) -> Iterator[None]:
    """Somebody listens on a node's own address, where a look at 127.0.0.1 does not show it."""
    assert record.network is not None
    number = record.node_names().index(node) + 1
    code = (
        "import socket, sys, time\n"
        "held = [socket.create_server((sys.argv[1], int(sys.argv[2])))]\n"
        "print('held', flush=True)\n"
        "time.sleep(600)"
    )
    space = f"--net={namespace_path(record.network, number)}"
    argv = ["nsenter", space, sys.executable, "-c", code, record.node_address(number), str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()


@pytest.mark.fault(19, 26)
def test_a_taken_port_and_a_link_cut_for_5_s(
    person: Person, devcluster: Record, whole: RunFolder, figures: dict[str, Any]
) -> None:
    """The next port in the same attempt; then the run waits out the cut and ends with the same bits."""
    words = [*RUN, "name=blip", "cluster.nodelist='node1,node2'", "+cluster.sbatch.begin=now+1hour"]
    folder, _ = submit(person, person.home, *words)
    job = job_of(folder)
    port = PORT_FIRST + job % PORT_COUNT
    with port_taken(devcluster, "node1", port):
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True, env=person.environment)
        wait_for(lambda: folder.checkpoint(EVERY).exists(), folder, "a checkpoint")
    assert [event["port"] for event in events(folder, "attempt_started")] == [port + 1]
    for node, name in enumerate(("node1", "node2")):
        found = json.loads(folder.attempt(0).preflight(node).read_text())
        assert (found["host"], [check for check in found["checks"] if not check["passed"]]) == (name, [])
    assert json.loads(folder.attempt(0).all_reduce.read_text())["mib_s"] > 0

    cluster.cut_link("node1", "node2", folder=Path(devcluster.folder))
    time.sleep(5)  # the fault itself
    cluster.mend_link("node1", "node2", folder=Path(devcluster.folder))
    wait_for_end(folder, "done")
    assert outcome(folder)["attempt"] == 0
    assert weights(folder) == weights(whole)
    figures |= {"steps_lost": 0, "attempts": 1}


def spoil_scratch(devcluster: Record, node: str, folder: Path) -> None:
    """A small disk for the scratch folder, which only that node sees."""
    record = read_record(Path(devcluster.folder))
    assert record is not None
    (daemon,) = [process for process in record.processes if process.name == node]
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=1777", "tmpfs", str(folder)]
    subprocess.run(["nsenter", f"--target={daemon.pid}", "--mount", *mount], check=True)


def test_an_unfit_node_is_named_and_left_out(person: Person, devcluster: Record) -> None:
    """A full disk on one of the nodes: the pre-flight says so, and the owner's own job goes on without that node."""
    scratch = person.home / "scratch"
    scratch.mkdir(mode=0o700)
    os.chown(scratch, person.uid, person.gid)
    spoil_scratch(devcluster, "node1", scratch)
    words = [*RUN, "name=unfit", f"cluster.scratch={scratch}", "train.max_steps=4", "checkpoint.export=never"]
    folder, _ = submit(person, person.home, *words)
    assert "node1" in hosts_of(folder, 0)
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert decision(folder, 0) == "requeue"
    assert outcome(folder)["failure"]["cause"] == "bad_node"
    assert "pre-flight of node1: scratch: 0.06 GiB free" in outcome(folder)["reason"]
    assert "has to be at least 1 GiB" in outcome(folder)["reason"]
    job = job_of(folder)
    told = ("scontrol", "-o", "show", "job", str(job))
    wait_for(lambda: " ExcNodeList=node1 " in person.run(*told).stdout, folder, "leaving out node1")
    start_now(person, job, folder)
    assert "node1" not in hosts_of(folder, 1)
    wait_for_end(folder, "done")
    (note,) = ledger(person, folder)["node1"]
    assert (note["cause"], note["attempt"], note["user"]) == ("scratch", 0, person.name)


@pytest.mark.fault(5, 6)
@pytest.mark.long
def test_a_node_dies_twice(person: Person, devcluster: Record, whole: RunFolder, figures: dict[str, Any]) -> None:
    """Slurm puts the job back, the run resumes; after its second death the node is not used again."""
    state = Path(devcluster.folder)
    folder, _ = submit(person, person.home, *RUN, "name=mortal")
    job = job_of(folder)
    victim = hosts_of(folder, 0)[1]
    wait_for(lambda: folder.checkpoint(2 * EVERY).exists(), folder, "a checkpoint")
    died = time.monotonic()
    cluster.kill_node(victim, folder=state)
    queued_again(person, job, folder)
    figures["noticed_s"] = round(time.monotonic() - died, 1)
    assert figures["noticed_s"] <= QUEUED_AGAIN_S
    cluster.restore_node(victim, folder=state)
    wait_until_back(person, victim)
    assert victim in hosts_of(folder, 1), "Slurm gives the same nodes as before"
    wait_for_step(folder, 3 * EVERY, attempt=1)
    measure(folder, figures, 1)
    assert [event["node"] for event in events(folder, "bad_node")] == [victim]

    wait_for(lambda: folder.checkpoint(5 * EVERY).exists(), folder, "a checkpoint")
    cluster.kill_node(victim, folder=state)
    queued_again(person, job, folder)
    cluster.restore_node(victim, folder=state)
    wait_until_back(person, victim)
    attempt = 1
    while victim in hosts_of(folder, attempt) and attempt < 4:
        attempt += 1
    assert victim not in hosts_of(folder, attempt)
    trained = {line["attempt"] for line in metrics(folder)}
    wait_for_end(folder, "done")
    assert all(victim not in hosts_of(folder, number) for number in range(2, attempt + 1) if number in trained)
    assert weights(folder) == weights(whole)
    assert {note["attempt"] for note in ledger(person, folder)[victim]} == {0, 1}
    figures["attempts"] = attempt + 1


def wait_until_back(person: Person, node: str) -> None:
    """Slurm has the node again; the job itself may already run on it."""
    deadline = time.monotonic() + 120
    while "down" in person.run("sinfo", "-h", "-p", "main", "-n", node, "-o", "%T").stdout:
        assert time.monotonic() < deadline, f"{node} did not come back"
        time.sleep(0.5)


@pytest.mark.fault(26)
@pytest.mark.long
def test_a_link_cut_for_good(person: Person, devcluster: Record, whole: RunFolder, figures: dict[str, Any]) -> None:
    """Both ends are named; the pre-flight of the next attempt sees the same, and one end is left out after that."""
    folder, _ = submit(person, person.home, *RUN, "name=cut", "health.silence_s=10")
    job = job_of(folder)
    one, other = hosts_of(folder, 0)
    wait_for(lambda: folder.checkpoint(2 * EVERY).exists(), folder, "a checkpoint")
    at = time.time()
    cluster.cut_link(one, other, folder=Path(devcluster.folder))
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert decision(folder, 0) == "requeue"
    said = outcome(folder)
    figures["named_s"] = round(said["failure"]["time"] - at, 1)
    figures["noticed_s"] = round(said["time"] - at, 1)
    assert f"the link between {one} and {other} is cut" in said["reason"] or (
        f"the link between {other} and {one} is cut" in said["reason"]
    )
    assert {event["node"] for event in events(folder, "bad_node")} <= {one, other}
    attempt = 0
    while {one, other} <= set(hosts_of(folder, attempt)) and attempt < 4:
        start_now(person, job, folder)
        attempt += 1
    wait_for_end(folder, "done")
    first = min(line["attempt"] for line in metrics(folder) if line["attempt"] > 0)
    measure(folder, figures, first)
    figures["attempts"] = attempt + 1
    assert weights(folder) == weights(whole)
    assert set(ledger(person, folder)) <= {one, other}
