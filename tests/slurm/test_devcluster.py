"""The devcluster itself, and the job script on it with a stand-in for Python that writes what train/ would write."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm import devcluster as cluster
from slurm import options
from slurm.devcluster import Record, network, processes
from slurm.devcluster.record import read_record
from tests.slurm.by_hand import Job, make_by_hand, wait_for
from tests.slurm.conftest import brought_up, somebody
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def devcluster() -> Iterator[Record]:
    """A devcluster of this module's own: preemption wants nodes that nobody else uses."""
    with brought_up(Path(f"/tmp/muster-devcluster-own-{os.getpid()}")) as record:
        yield record


@pytest.fixture(scope="module")
def person(devcluster: Record) -> Iterator[Person]:
    with somebody(devcluster) as one:
        yield one


@pytest.fixture
def make_job(person: Person, devcluster: Record, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    monkeypatch.setenv("SLURM_CONF", str(devcluster.slurm_conf))

    def make(name: str, partition: str = "main") -> Job:
        return make_by_hand(person, devcluster, name, partition)

    return make


def test_each_node_is_its_own_host(person: Person) -> None:
    lines = person.run(
        "srun", "--nodes=2", "--ntasks-per-node=1", "bash", "-c", "echo $(hostname) $(id -un)"
    ).stdout.split("\n")
    assert sorted(filter(None, lines)) == [f"node1 {person.name}", f"node2 {person.name}"]


@pytest.mark.parametrize(
    "value",
    ['say "hi"', "it's", "$(touch x) `y`", "a\\b", "# no comment", "ü 漢", "x" * 300, "tail\\", "%j"],
    ids=["double", "single", "shell", "backslash", "hash", "unicode", "long", "last-backslash", "percent"],
)
def test_sbatch_reads_back_what_was_quoted(value: str, person: Person, tmp_path: Path) -> None:
    script = person.home / "quoted.sbatch"
    script.write_text(
        "\n".join(["#!/bin/bash", *options.render({"comment": value, "hold": True, "output": "/dev/null"}), "true\n"])
    )
    script.chmod(0o644)
    job_id = person.run("sbatch", "--parsable", str(script)).stdout.strip()
    assert person.run("squeue", "--noheader", "--format=%k", f"--jobs={job_id}").stdout.rstrip("\n") == value
    person.run("scancel", job_id)


def test_time_limit_requeues_into_a_second_attempt(make_job: Callable[..., Job]) -> None:
    job = make_job("time limit%j")
    job.submit()
    job.attempt_runs(0)
    job.client.signal(job.id, "USR1")
    wait_for(lambda: job.field("Restarts") == "1", f"requeue\n{job.log(0)}")
    wait_for(lambda: job.field("JobState") == "PENDING", "pending")
    subprocess.run(["scontrol", "update", f"JobId={job.id}", "StartTime=now+2"], check=True)
    job.attempt_runs(1)
    job.poke("FINISH")
    job.ends_in("COMPLETED")
    first, second = (job.folder.attempt(number) for number in (0, 1))
    assert (second.folder / "STOP.old").read_text() == "time_limit\n"
    assert not job.folder.stop.exists()
    assert not job.folder.lock.exists()
    assert json.loads(second.job.read_text())["job"] == f"slurm:{job.id}"
    assert (job.folder.path / f"slurm-{job.id}.log").read_text().count("muster: attempt") == 2
    seen = dict(line.split("=", 1) for line in (first.folder / "env1").read_text().splitlines() if "=" in line)
    assert seen["MUSTER_NODE_RANK"] == "1"
    assert seen["MUSTER_HOSTS"].split()[0] == seen["MUSTER_HEAD"]
    assert seen["FROM_FILE"] == "$(touch pwned) `x` \"q\" 'p'"
    assert seen["FROM_SETUP"] == "yes"
    assert 15000 <= int(seen["MUSTER_PORT"]) < 31000
    assert not [name for name in seen if name.startswith("SLURM") and name != "SLURM_CONF"]
    assert "SECRET" not in seen
    assert seen["KEPT_ONE"] == "yes"
    assert list((job.person.home / "scratch" / f"muster-{job.person.uid}").glob("job-*")) == []


def test_a_scancel_is_no_preemption(make_job: Callable[..., Job]) -> None:
    job = make_job("cancelled")
    job.submit()
    job.attempt_runs(0)
    job.client.cancel(job.id)
    job.ends_in("CANCELLED")
    outcome = json.loads(job.folder.outcome.read_text())
    assert outcome["state"] == "cancelled"
    assert job.field("Restarts") == "0"


@pytest.mark.parametrize("partition", ["preempt", "preempt_cancel"])
def test_preemption_goes_back_into_the_queue(partition: str, make_job: Callable[..., Job], person: Person) -> None:
    job = make_job(f"goes-{partition}", partition)
    job.submit()
    job.attempt_runs(0)
    everything = ["--partition=main", "--nodes=4", "--exclusive", "--mem=100", "--time=1", "--output=/dev/null"]
    other = person.run("sbatch", "--parsable", *everything, "--wrap=sleep 1").stdout.strip()
    wait_for(lambda: job.field("Restarts") == "1", f"requeue\n{job.log(0)}")
    assert "requeue" in job.log(0)
    person.run("scancel", job.id, other)


def test_two_jobs_on_one_run(make_job: Callable[..., Job]) -> None:
    job = make_job("twice")
    job.submit()
    job.attempt_runs(0)
    first = job.id
    job.submit()
    job.ends_in("FAILED")
    assert f"slurm:{first} holds the run" in (job.folder.path / f"slurm-{job.id}.log").read_text()
    assert not job.folder.attempt(1).folder.exists()
    job.poke("FINISH")
    job.id = first
    job.ends_in("COMPLETED")


def test_client_reads_a_real_cluster(make_job: Callable[..., Job]) -> None:
    job = make_job("read")
    estimate = job.client.test_only(job.folder.job_sbatch)
    assert estimate is not None
    assert estimate.partition == "main"
    assert [partition.name for partition in job.client.partitions()] == ["main", "long", "preempt", "preempt_cancel"]
    assert job.client.max_array_size() == 1001
    assert job.client.accounting(["1"]) == []
    job_id = job.client.submit(job.folder.job_sbatch)
    assert job.client.find(job.folder.job_sbatch) == job_id
    assert job.client.find(job.folder.job_sbatch, known=[job_id]) is None
    job.client.cancel(job_id)


@pytest.mark.skipif(os.geteuid() != 0, reason="own networks need root")
def test_up_cleans_after_a_crash_and_down_leaves_nothing(devcluster: Record) -> None:
    folder = Path(f"/tmp/muster-devcluster-test-{os.getpid()}")
    record = cluster.up(2, 1, folder)
    assert cluster.status(folder).node_states == {"node1": "idle", "node2": "idle"}
    subprocess.run(
        ["sbatch", "--output=/dev/null", "--wrap=sleep 600"],
        env={**os.environ, "SLURM_CONF": str(record.slurm_conf)},
        check=True,
    )
    wait_for(lambda: len(processes.remaining(folder)) > 4, "the job's processes")
    controller = [process for process in record.processes if process.name in ("munged", "slurmctld")]
    for process in controller:
        os.kill(process.pid, 9)
    wait_for(lambda: not any(map(processes.lives, controller)), "the crash")
    again = cluster.up(1, 1, folder)
    assert not any(map(processes.lives, record.processes))
    assert cluster.down(folder)
    assert again.network is not None
    assert not any(map(processes.lives, again.processes))
    assert processes.remaining(folder) == []
    assert network.inodes(again.network) == []
    assert network.network_of(folder) is None
    assert not folder.exists()
    assert not folder.with_name(f"{folder.name}.lock").exists()
    assert not cluster.down(folder)
    assert read_record(Path(devcluster.folder)) is not None
