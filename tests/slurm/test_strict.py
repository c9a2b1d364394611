"""A strict site: what its limits, accounts and submit script refuse, how it ends jobs, what doctor sees."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conf.layout import RunFolder
from slurm.client import Client
from slurm.devcluster import Record
from tests.slurm.live import job_of, lines, wait_for
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

TINY = [
    *("experiment=demo", "cluster=devcluster", "cluster.nodes=1", "cluster.ranks_per_node=1"),
    *("tracking=none", "data.max_length=64"),
]
HELD = ["cluster.sbatch={hold: true}", "checkpoint.export=never"]

REFUSALS = {
    "foreign account": (["cluster.account=theirs"], ["about: cluster.account=theirs", "your accounts: lab, few"]),
    "closed qos": (["cluster.qos=closed"], ["about: cluster.qos=closed", "your QOS with account lab: normal, short"]),
    "qos time": (
        ["cluster.qos=short", "cluster.time='00:20:00'"],
        ["about: cluster.time=00:20:00", "qos short: at most 00:10:00 a job, gres/gpu=1,node=1 a job"],
    ),
    "qos nodes": (
        ["cluster.qos=short", "cluster.time='00:09:00'", "cluster.nodes=2"],
        ["about: cluster.nodes=2", "qos short"],
    ),
    "qos gpus": (
        ["cluster.qos=short", "cluster.time='00:09:00'", "cluster.partition=gpu", "cluster.gpus_per_node=2"],
        ["about: cluster.gpus_per_node=2", "gres/gpu=1"],
    ),
    "reservation": (["cluster.reservation=course"], ["Access denied", "about: cluster.reservation=course"]),
    "submit script": (
        ["cluster.partition=gpu", "cluster.time='00:09:00'"],
        ["partition gpu is for jobs that use GPUs: add --gpus-per-node=1", "about: cluster.gpus_per_node=0"],
    ),
    "too many GPUs": (
        ["cluster.partition=gpu", "cluster.time='00:09:00'", "cluster.gpus_per_node=3"],
        ["Requested node configuration is not available"],
    ),
}  # fmt: skip


@pytest.fixture
def work(member: Person, tmp_path: Path) -> Iterator[Path]:
    """A folder of the person's, for one test."""
    folder = member.home / tmp_path.name
    folder.mkdir()
    shutil.chown(folder, member.uid, member.gid)
    yield folder
    cancel_all(member, folder)


@pytest.fixture(scope="module")
def ended(strict: Record, member: Person) -> dict[str, RunFolder]:
    """Runs that end without a word of their own: at the time limit, with their node, cancelled while they wait."""
    words = [*TINY, "cluster.setup=['sleep 600']", "cluster.requeue=false", "cluster.mem=500M"]
    words.append("cluster.memory_check=false")  # they only sleep
    kinds = {
        "TIMEOUT": ["cluster.time='00:01:00'", "cluster.signal_lead_s=1"],
        "NODE_FAIL": ["cluster.nodelist=node2"],
        "CANCELLED": ["cluster.sbatch={hold: true}"],
    }
    folders = {}
    for kind, more in kinds.items():
        said = member.muster("submit", *words, *more, f"name={kind.lower()}", "--json", cwd=member.home)
        folders[kind] = RunFolder(Path(json.loads(said)["folder"]))
    member.run("scancel", str(job_of(folders["CANCELLED"])))
    return folders


def cancel_all(member: Person, folder: Path) -> None:
    """Cancel the jobs of the runs in a folder, and nobody else's."""
    queued = [line.split(maxsplit=1) for line in member.run("squeue", "-h", "--me", "-o", "%i %Z").stdout.splitlines()]
    jobs = [job for job, place in queued if Path(place).is_relative_to(folder)]
    if jobs:
        member.run("scancel", *jobs)


def scontrol(strict: Record, *words: str) -> str:
    return subprocess.run(
        ["scontrol", *words], env=environment(strict), check=True, capture_output=True, text=True
    ).stdout


def environment(strict: Record) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "SLURM_CONF": str(strict.slurm_conf)}


def muster(member: Person, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return member.run(str(member.python), "-m", "muster", *words, cwd=cwd, check=False)


@pytest.mark.usefixtures("ended")  # they take their minute while the others are tested
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_the_key_and_what_would_do(case: str, member: Person, work: Path) -> None:
    overrides, expected = REFUSALS[case]
    done = muster(member, "submit", *TINY, *overrides, cwd=work)
    assert done.returncode == 3, done.stdout + done.stderr
    assert [words for words in expected if words not in done.stderr] == [], done.stderr
    assert list(work.iterdir()) == []


def test_limits_of_partitions_are_known_before_slurm_is_asked(member: Person, work: Path) -> None:
    overrides = ["cluster.partition=gpu", "cluster.gpus_per_node=1", "cluster.nodes=2", "cluster.time='02:00:00'"]
    done = muster(member, "submit", *TINY, *overrides, cwd=work)
    assert done.returncode == 2
    assert "cluster.nodes=2 is more than the 1 nodes a job may have in partition gpu" in done.stderr
    assert "cluster.time=02:00:00 is more than the time limit of partition gpu" in done.stderr
    assert list(work.iterdir()) == []


def test_a_sweep_sends_what_fits_and_carries_on_later(member: Person, work: Path) -> None:
    """Three jobs at a time: the data step and two points, then the other three as jobs end."""
    words = [*TINY, *HELD, "cluster.account=few", "sweep.name=wide", "-m", "train.seed=1,2,3,4,5"]
    first = muster(member, "submit", *words, cwd=work)
    assert first.returncode == 3
    assert "cluster.account=few has 3 of the 3 jobs that it takes at a time" in first.stderr
    assert "2 of 5 points are sent now; the same command goes on with the rest" in first.stderr
    second = muster(member, "submit", *words, cwd=work)
    assert second.returncode == 3
    assert "account few (qos normal, short): at most 3 jobs waiting or running" in second.stderr
    assert "there is room again as jobs end" in second.stderr

    member.run("scancel", f"--user={member.name}", "--account=few")
    third = muster(member, "submit", *words, cwd=work)
    assert "2 of 3 points are sent now" in third.stderr, third.stderr
    member.run("scancel", f"--user={member.name}", "--account=few")
    last = muster(member, "submit", *words, cwd=work)
    assert last.returncode == 0, last.stderr
    (folder,) = (work / "runs" / "sweeps").iterdir()
    entries = [line for line in lines(folder / "ledger.jsonl") if line["purpose"] == "train"]
    assert not [line for line in entries if line["event"] == "refused"]
    runs = [RunFolder(path) for path in (work / "runs").iterdir() if (path / "run.json").exists()]
    sent = [line for run in runs for line in lines(run.submissions) if line["event"] == "sent"]
    assert sum(line["purpose"] == "train" for line in sent) == 5


@pytest.mark.parametrize("override", ["cluster.gpus_per_node=1", "cluster.gres=gpu:1"])
def test_gpus_are_asked_for_so_that_slurm_counts_them(
    override: str, strict: Record, member: Person, work: Path
) -> None:
    words = [*TINY, *HELD, "cluster.partition=gpu", "cluster.time='00:09:00'", override]
    said = json.loads(member.muster("submit", *words, "--json", cwd=work))
    folder = RunFolder(Path(said["folder"]))
    job = scontrol(strict, "-o", "show", "job", str(job_of(folder)))
    assert "TresPerNode=gres:gpu:1" in job
    step = folder.job.srun.read_text().split()
    assert {"--gpus-per-node=1", "--gres=gpu:1"} & set(step)


CONTINUATIONS = {
    "a chain where nothing is said": ("main", [], ["--no-requeue"], "0"),
    "ours over JobRequeue=0": ("main", ["cluster.continuation=requeue"], ["--requeue"], "1"),
    "the submit script over ours": ("once", ["cluster.continuation=requeue"], ["--requeue"], "0"),
}


@pytest.mark.parametrize("case", CONTINUATIONS)
def test_a_site_that_forbids_requeue_gets_what_it_is_told(
    case: str, strict: Record, member: Person, work: Path
) -> None:
    partition, overrides, asked, taken = CONTINUATIONS[case]
    said = json.loads(
        member.muster("submit", *TINY, *HELD, f"cluster.partition={partition}", *overrides, "--json", cwd=work)
    )
    folder = RunFolder(Path(said["folder"]))
    job = scontrol(strict, "-o", "show", "job", str(job_of(folder)))
    assert {f"#SBATCH {word}" for word in asked} <= set(folder.job_sbatch.read_text().splitlines())
    assert f" Requeue={taken} " in job


def test_doctor_tells_the_limits(member: Person) -> None:
    findings = {one["topic"]: one for one in json.loads(member.muster("doctor", "--json"))}
    limits = findings["Slurm limits"]
    assert limits["ok"] is True
    assert "account few (qos normal, short): at most 3 jobs waiting or running" in limits["found"]
    assert "qos short: at most 00:10:00 a job, gres/gpu=1,node=1 a job" in limits["found"]


def test_accounting_tells_how_a_job_ended_that_left_no_word(
    strict: Record, member: Person, ended: dict[str, RunFolder]
) -> None:
    def state(kind: str) -> str:
        job = str(job_of(ended[kind]))
        found = Client(str(strict.slurm_conf)).accounting([job])
        return found[0].state.split()[0] if found else ""

    wait_for(lambda: state("NODE_FAIL") == "RUNNING" or None, ended["NODE_FAIL"], "a job that runs")
    scontrol(strict, "update", "NodeName=node2", "State=DOWN", "Reason=test")  # it comes back by itself
    for kind in ended:
        wait_for(_reached(state, kind), ended[kind], f"the end {kind}", after_end=True)
    names = [folder.path.name for folder in ended.values()]
    standings = json.loads(member.muster("status", *names, "--json", cwd=member.home))
    told = {one["id"].rsplit("-", 1)[0]: (one["state"], one["reason"]) for one in standings}
    assert told["timeout"][0] == "time_limit"
    assert told["timeout"][1].endswith("Slurm says TIMEOUT: the time limit was reached")
    assert told["node_fail"][0] == "failed"
    assert told["node_fail"][1].endswith("Slurm says NODE_FAIL: a node failed")
    assert told["cancelled"][0] == "cancelled"
    assert "left the queue before it started; Slurm says CANCELLED" in told["cancelled"][1]


def _reached(state: Callable[[str], str], kind: str) -> Callable[[], bool]:
    return lambda: state(kind) == kind
