"""Output of Slurm's commands, as recorded from Slurm 22.05, and what it means."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from pathlib import Path

import pytest

from slurm import commands, parse, states
from slurm.limits import limits
from slurm.parse import SEPARATOR, Job
from slurm.queue_cache import QueueCache
from slurm.refusals import SUBMIT_LIMIT, culprit

QUEUE = "\n".join(
    SEPARATOR.join(fields)
    for fields in (
        (
            "12",
            "RUNNING",
            "None",
            "main",
            "2",
            "node[1-2]",
            "1:02",
            "58:58",
            "2026-11-21T01:30:49",
            "lab",
            "normal",
            "/r/job.sbatch",
            "a|b c",
        ),
        ("13_4", "PENDING", "Resources", "main", "1", "", "0:00", "1:00:00", "N/A", "lab", "normal", "/r/x.sh", "ü"),
        ("x", "not a job"),
    )
)


def test_queue() -> None:
    first, second = parse.queue(QUEUE)
    assert (first.id, first.name, first.nodes, first.command, first.is_pending) == (
        "12",
        "a|b c",
        2,
        "/r/job.sbatch",
        False,
    )
    assert (second.id, second.submission, second.is_pending, second.explanation) == (
        "13_4",
        "13",
        True,
        "waits for nodes to become free (Resources)",
    )


def test_partitions() -> None:
    lines = [
        ("main*", "up", "12:00:00", "3", "1-infinite", "4", "24105", "(null)"),
        ("main*", "up", "12:00:00", "1", "1-infinite", "64+", "900000", "gpu:h100:8"),
        ("debug", "down", "infinite", "1", "1-2", "4", "24105", "(null)"),
    ]
    main, debug = parse.partitions("\n".join(SEPARATOR.join(fields) for fields in lines))
    assert main == parse.Partition("main", True, True, 4, None, 43200, 4, 24105, "gpu:h100:8", None, 900000)
    assert debug == parse.Partition("debug", False, False, 1, 2, None, 4, 24105, "")


def test_the_largest_node_of_a_partition_is_kept_beside_the_smallest() -> None:
    """In whatever order sinfo tells of them."""
    sizes = (("128", "2000000"), ("40", "190000"), ("64", "190000"))
    for order in itertools.permutations(sizes):
        lines = [SEPARATOR.join(("main", "up", "1:00", "2", "1-4", *size, "(null)")) for size in order]
        (found,) = parse.partitions("\n".join(lines))
        assert (found.cpus_per_node, found.most_cpus) == (40, 128)
        assert (found.mem_mib_per_node, found.most_mem_mib) == (190000, 2000000)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("Submitted batch job 7\n", "7"),
        ("7\n", "7"),
        ("7;cluster\n", "7"),
        ("sbatch: note\n8\n", "8"),
        ("nothing", None),
        ("", None),
    ],
)
def test_submitted(text: str, job_id: str | None) -> None:
    assert parse.submitted_id(text) == job_id


def test_estimate() -> None:
    text = "sbatch: Job 21 to start at 2026-11-21T01:40:48 using 2 processors on nodes node[1-2] in partition main\n"
    assert parse.estimate(text) == parse.Estimate("2026-11-21T01:40:48", 2, "node[1-2]", "main")
    assert parse.estimate("") is None


def test_accounts() -> None:
    (account,) = parse.accounts("12|CANCELLED by 1000|0:15|00:01:02|node[1-2]\n12.batch|x\n")
    assert account.explanation == "cancelled by a person or an administrator"


POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)
REFUSALS = {
    "sbatch: error: invalid partition specified: nowhere": "partition",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified": "account",
    "sbatch: error: Batch job submission failed: Invalid qos specification": "qos",
    "sbatch: error: Batch job submission failed: Requested time limit is invalid": "time",
    "sbatch: error: Invalid --time specification": "time",
    "sbatch: error: Batch job submission failed: Requested reservation is invalid": "reservation",
    "sbatch: error: Batch job submission failed: Invalid feature specification": "constraint",
    "sbatch: error: Batch job submission failed: Invalid generic resource (gres) specification": "gres",
    "sbatch: error: Memory specification can not be satisfied": "mem",
    "sbatch: error: CPU count per node can not be satisfied": "cpus-per-task",
    "sbatch: error: Batch job submission failed: Node count specification invalid": "nodes",
    "sbatch: error: Batch job submission failed: Invalid node name specified": "nodelist",
    "sbatch: unrecognized option '--mail-typ=END'": "mail-typ",
    f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}": "time",
    f"sbatch: error: QOSMaxNodePerJobLimit\n{POLICY}": "nodes",
    f"sbatch: error: AssocMaxCpuPerJobLimit\n{POLICY}": "cpus-per-task",
    f"sbatch: error: QOSMaxGRESPerJob\n{POLICY}": "gres",
    f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}": SUBMIT_LIMIT,
    f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}": SUBMIT_LIMIT,
    "sbatch: error: Batch job submission failed: Requested node configuration is not available": None,
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)": None,
}


@pytest.mark.parametrize(("words", "option"), REFUSALS.items())
def test_culprit(words: str, option: str | None) -> None:
    assert culprit(words) == option


def test_reasons_and_states() -> None:
    assert states.explain_reason("(Priority)") == "jobs of higher priority are first (Priority)"
    assert states.explain_reason("QOSMaxJobsPerUserLimit") == "the QOS is at a limit (QOSMaxJobsPerUserLimit)"
    assert states.explain_reason("ReqNodeNotAvail, UnavailableNodes:n1").endswith(
        "(ReqNodeNotAvail, UnavailableNodes:n1)"
    )
    assert states.explain_reason("SomethingNew") == "SomethingNew"
    assert states.is_final("CANCELLED by 0")
    assert states.is_final("OUT_OF_ME+")
    assert not states.is_final("RUNNING")


def test_the_environment_of_commands() -> None:
    inherited = {"PATH": "/bin", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "x", "SQUEUE_FORMAT": "%i", "SLURM_CONF": "/a"}
    assert commands.environment(None, inherited) == {"PATH": "/bin", "SLURM_CONF": "/a"}
    assert commands.environment("/b", inherited)["SLURM_CONF"] == "/b"


def test_one_question_for_all_watchers(tmp_path: Path) -> None:
    asked = []

    def ask() -> list[Job]:
        asked.append(1)
        return [Job("1", state="RUNNING"), Job("2")]

    first, second = (QueueCache("/conf", 30, tmp_path) for _ in range(2))
    assert [job.id for job in first.jobs(ask)] == ["1", "2"]
    second.add([Job("3"), Job("4_0"), Job("4_1")])
    second.drop(["2", "1", "4_0"])
    assert [(job.id, job.state) for job in second.jobs(ask)] == [
        ("1", "COMPLETING"),
        ("3", "PENDING"),
        ("4_1", "PENDING"),
    ]
    assert len(asked) == 1
    QueueCache("/conf", 0, tmp_path).jobs(ask)
    QueueCache("/other", 30, tmp_path).jobs(ask)
    assert len(asked) == 3


def test_a_cache_that_cannot_be_locked_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    cache = QueueCache("/conf", 30, tmp_path)
    assert cache.jobs(lambda: [Job("1")]) == cache.jobs(lambda: [Job("2")]) == [Job("1")]


def test_limits_of_a_person() -> None:
    found = limits(
        "few||normal,short||3||\nlab||normal,short||||\nlab|gpu|long|4|||cpu=8\n",
        "normal||||\nshort||2|00:10:00|gres/gpu=1,node=1\nclosed|1|||\n",
        "lab\n",
    )
    assert found.accounts == ["lab", "few"]
    assert found.qos_of(None) == ["normal", "short", "long"]
    assert [found.submit_limit(*pair) for pair in ((None, None), ("few", None), ("few", "short"))] == [None, 3, 2]
    assert found.submit_limit("few", None, "gpu") == 3
    assert found.words() == [
        "account few (qos normal, short): at most 3 jobs waiting or running",
        "account lab (qos normal, short)",
        "account lab in partition gpu (qos long): at most 4 jobs running, cpu=8 a job",
        "qos short: at most 2 jobs waiting or running, 00:10:00 a job, gres/gpu=1,node=1 a job",
    ]


def test_limits_of_a_partition_count_there_alone() -> None:
    """Slurm looks for the association of a job's partition first, then for that of none."""
    found = limits("lab||normal||9||\nlab|debug|normal||1||\nlab|gpu|normal||||\n", "normal||||\n", "lab\n")
    expected = {None: 9, "cpu": 9, "debug": 1, "gpu": None, "gpu,debug": 1, "gpu,cpu": 9}
    assert {partition: found.submit_limit(None, None, partition) for partition in expected} == expected
