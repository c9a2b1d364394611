"""`muster doctor` on a real Slurm: the site file it writes is taken as it stands; a bench of two nodes is a job."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from slurm.devcluster import Record
from tests.slurm.person import Person

pytestmark = pytest.mark.slurm


def found_site(person: Person) -> dict[str, object]:
    """The site file, written where the person would put it; its content."""
    text = person.muster("doctor", "--site")
    folder = person.home / ".config" / "muster" / "cluster"
    person.run("mkdir", "-p", str(folder))
    person.run("sh", "-c", 'printf "%s" "$1" > "$2"', "sh", text, str(folder / "found.yaml"))
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    return content


def accepted(person: Person, where: Path) -> subprocess.CompletedProcess[str]:
    """What Slurm says of the job that the demo would be with that site file."""
    person.muster("plan", "experiment=demo", "cluster=found", "tracking=none", "--files", str(where))
    return person.run("sbatch", "--test-only", str(where / "job.sbatch"), check=False)


def test_the_site_file_of_a_quiet_site(devcluster: Record, person: Person) -> None:
    content = found_site(person)
    assert content["partition"] == "main"
    assert content["time"] == "12:00:00"
    assert content["cpus_per_task"] == devcluster.cpus_per_node
    assert content["gpus_per_node"] == 0
    assert "account" not in content
    done = accepted(person, person.home / "quiet")
    assert done.returncode == 0, done.stderr


def test_the_site_file_of_a_strict_site(strict: Record, member: Person) -> None:
    content = found_site(member)
    assert (content["account"], content["partition"], content["time"]) == ("lab", "once", "1-00:00:00")
    assert (content["gpus_per_node"], content["mem"]) == (2, "0")
    text = (member.home / ".config" / "muster" / "cluster" / "found.yaml").read_text()
    assert "auto means here: a chain of jobs" in text
    assert "Yours: lab, few (sacctmgr)" in text
    done = accepted(member, member.home / "strict")
    assert done.returncode == 0, done.stderr


def test_findings_of_a_site(devcluster: Record, person: Person) -> None:
    rows = {row["topic"]: row for row in json.loads(person.muster("doctor", "--json"))}
    assert rows["Slurm"]["ok"]
    assert "cluster muster" in rows["Slurm"]["found"]
    assert "4 nodes of" in rows["partition main (default)"]["found"]
    assert "preempted (cancelled, 30 s of grace)" in rows["partition preempt_cancel"]["found"]
    assert "1001 elements" in rows["arrays"]["found"]


def test_a_bench_of_two_nodes(devcluster: Record, person: Person) -> None:
    work = person.home / "bench"
    person.run("mkdir", str(work))
    words = (
        "cluster=slurm",
        "cluster.nodes=2",
        "cluster.ranks_per_node=2",
        "cluster.cpus_per_task=2",
        "cluster.time='00:10:00'",
    )
    said = json.loads(person.muster("doctor", "--bench", "--json", *words, cwd=work, timeout_s=400))
    assert {"inter_node_gbps", "intra_node_gbps", "matmul_bf16_tflops", "runs_write_mb_s"} <= set(said)
    assert all(value > 0 for value in said.values() if isinstance(value, float))
