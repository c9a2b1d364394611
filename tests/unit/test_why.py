"""`muster why`: the first cause, what shows it, the story, what to change; over run folders as they are left behind."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conf.cause import TERMINATED
from conf.layout import RunFolder
from conf.outcome import AgentReport, Cause, Failure, RankExit, State
from conf.schema import ClusterKind, Precision
from launcher import cli
from launcher.compose.keys import all_keys
from launcher.sweep.record import Sweep, SweptPoint, encode_sweep
from launcher.why.advice import ADVICE, Again, advice_for
from launcher.why.diagnosis import diagnose
from launcher.why.flat import flat
from launcher.why.page import troubleshooting
from launcher.why.pending import advice_on
from launcher.why.remedies import REMEDIES
from slurm.parse import Job
from slurm.states import REASONS
from tests.unit.runs import append, begin, end, make_run, metrics, write_failure, write_report
from tests.unit.slurm_site import make_site, put_in_queue
from train.node.decide import MACHINES, REPEATS

ROOT = Path(__file__).resolve().parents[2]
STOPS = {Cause.preempted, Cause.time_limit, Cause.cancelled}


def failure(
    cause: Cause, rank: int = 1, node: int = 0, time: float = 10.0, message: str = "", traceback: str = ""
) -> Failure:
    return Failure(rank, node, f"n{node}", time, cause, message or cause.value, traceback)


def report(
    node: int = 0, exits: list[RankExit] | None = None, said: Failure | None = None, kernel: list[str] | None = None
) -> AgentReport:
    return AgentReport(node, f"n{node}", 0.0, 20.0, "fork", exits or [], said, kernel=kernel or [])


def killed(rank: int = 1) -> list[RankExit]:
    return [RankExit(rank, rank, 7, 10.0, signal=signal.SIGKILL)]


NODE_FAILED = "srun: error: Node failure on n1"
OOM_STEP = "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed."
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1 GiB is free."
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus."
SEGFAULT = "Fatal Python error: Segmentation fault\n  File x"
OOM_KERNEL = "[12.500] Memory cgroup out of memory: Killed process 7 (rank1) total-vm:309524kB"
TERMINATION = Failure(-1, 0, "n0", 9.0, Cause.killed, TERMINATED)

Left = Callable[[RunFolder, Any], None]


def left(
    *failures: Failure,
    reports: tuple[AgentReport, ...] = (),
    state: State = State.failed,
    reason: str = "",
    **logs: str,
) -> Left:
    """What an attempt leaves: failures, reports, logs (`rank1`, `agent0`, `job`), an outcome."""

    def leave(folder: RunFolder, attempt: Any) -> None:
        for each in failures:
            write_failure(attempt, each)
        for one in reports:
            write_report(attempt, one)
        for name, text in logs.items():
            path = attempt.job_log
            if name.startswith("rank"):
                path = attempt.rank_log(0, int(name[4:]))
            elif name.startswith("agent"):
                path = attempt.agent_log(int(name[5:]))
            path.write_text(text)
        end(folder, state=state, reason=reason, step=10)

    return leave


CASES: dict[str, tuple[Left, Cause, int | None, str]] = {
    "1 killed": (left(failure(Cause.lost_peer, 0), reports=(report(exits=killed()),)), Cause.killed, 1, "SIGKILL"),
    "1 segfault": (
        left(failure(Cause.killed, message="killed by SIGSEGV", traceback=SEGFAULT)),
        Cause.killed,
        1,
        "compiled code",
    ),
    "1 os._exit": (
        left(failure(Cause.unknown, message="exit status 7"), rank1="step 3\n"),
        Cause.unknown,
        1,
        "os._exit",
    ),
    "1 aborted, told in its log": (
        left(
            failure(Cause.unknown, message="exit status 1"), rank1="RuntimeError: CUDA error: uncorrectable ECC error\n"
        ),
        Cause.gpu,
        1,
        "Xid",
    ),
    "2 raises": (
        left(
            failure(Cause.lost_peer, 0, time=9.0),
            failure(Cause.user_code, message="ValueError: bad", traceback="T\nValueError: bad"),
        ),
        Cause.user_code,
        1,
        "ValueError: bad",
    ),
    "3 memory, by the kernel's count": (
        left(failure(Cause.oom, message="killed by SIGKILL")),
        Cause.oom,
        1,
        "cluster.mem",
    ),
    "3 memory, by the kernel's log": (
        left(reports=(report(exits=killed(), kernel=[OOM_KERNEL]),)),
        Cause.oom,
        1,
        "Killed process 7",
    ),
    "3 memory, by Slurm's word": (
        left(reports=(report(exits=killed()),), agent0=OOM_STEP + "\n"),
        Cause.oom,
        1,
        "oom_kill",
    ),
    "4 GPU memory": (left(failure(Cause.cuda_oom, message=CUDA)), Cause.cuda_oom, 1, "micro batch"),
    "1 os._exit, then cancelled by srun": (
        left(
            failure(Cause.unknown, message="exit status 7"),
            agent0="slurmstepd: error: *** STEP 12.0 ON n0 CANCELLED AT 2026-01-01T00:00:00 ***\n",
        ),
        Cause.unknown,
        1,
        "os._exit",
    ),
    "5 node, by Slurm's word": (
        left(reports=(report(0, said=TERMINATION),), job=NODE_FAILED + "\n", reason="the agents of nodes 1 are gone"),
        Cause.node_fail,
        -1,
        "Node failure on n1",
    ),
    "12 scancel, by Slurm's word": (
        left(reports=(report(0, said=TERMINATION),), job="slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT t ***\n"),
        Cause.cancelled,
        -1,
        "muster resume",
    ),
    "9 requeued by an administrator": (
        left(
            reports=(report(0, said=TERMINATION),),
            job="slurmstepd: error: *** JOB 12 ON n0 CANCELLED AT t DUE TO JOB REQUEUE ***\n",
        ),
        Cause.preempted,
        -1,
        "waits in the queue",
    ),
    "a GPU of another node fell off the bus": (
        left(
            failure(Cause.nccl_timeout, 0),
            reports=(AgentReport(1, "n1", 0.0, 20.0, "exec", kernel=[XID]),),
        ),
        Cause.gpu,
        None,
        "n1 NVRM: Xid",
    ),
    "7 hang": (left(failure(Cause.hang, 0)), Cause.hang, 0, "stood still"),
    "9 preempted": (left(state=State.preempted, reason="preempted"), Cause.preempted, None, "waits in the queue"),
    "10 time limit": (left(state=State.time_limit, reason="time_limit"), Cause.time_limit, None, "cluster.time"),
    "12 stopped": (left(state=State.stopped, reason="stopped"), Cause.cancelled, None, "muster resume"),
    "15 checkpoints": (left(failure(Cause.checkpoint, 0)), Cause.checkpoint, 0, "checkpoints that are there: 10"),
    "16 disk": (
        left(failure(Cause.disk_full, message="OSError: [Errno 28] No space left on device: '/tmp/x/y'")),
        Cause.disk_full,
        1,
        "/tmp/x/y has",
    ),
    "17 NaN": (left(failure(Cause.nan, 0)), Cause.nan, 0, "optim.learning_rate"),
    "19 port": (left(failure(Cause.port, -1)), Cause.port, -1, "64 ports"),
    "data step": (
        left(failure(Cause.data, -1, message="train.jsonl line 7: no column text")),
        Cause.data,
        -1,
        "line 7",
    ),
    "import": (
        left(failure(Cause.import_error, -1, message="ModuleNotFoundError: No module named 'flash_attn'")),
        Cause.import_error,
        -1,
        "pip install flash-attn",
    ),
}


@pytest.mark.parametrize(("leave", "cause", "rank", "says"), CASES.values(), ids=CASES)
def test_each_fault_has_its_class_and_its_advice(
    tmp_path: Path, leave: Left, cause: Cause, rank: int | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, precision=Precision.bf16)
    append(folder.events, {"event": "attempt_started", "attempt": 0, "hosts": ["n0", "n1"]})
    append(folder.metrics, *(metrics(step, 2.0) for step in (1, 12)))
    append(folder.events, {"event": "checkpoint", "attempt": 0, "step": 10, "seconds": 3.0})
    folder.checkpoint(10).mkdir(parents=True)
    leave(folder, begin(folder))
    found = diagnose(folder, None)
    assert found.verdict is not None
    assert (found.verdict.cause, found.verdict.rank) == (cause, rank)
    assert cli.main(["why", str(folder.path)]) == 0
    page = capsys.readouterr().out
    assert f"{cause.value}: " in page
    assert says in " ".join(page.split())
    assert "steps 1–12, saved 10" in page
    assert "\x1b" not in page
    too_long = [line for line in page.splitlines() if len(line) > 80 and "/" not in line]
    assert too_long == []
    assert cli.main(["why", str(folder.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == cause.value


def test_a_lost_agent_is_explained_by_slurm(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    attempt = begin(folder)
    gone = Failure(-1, 0, "", 20.0, Cause.lost_peer, "the agents of nodes 1 are gone without a word")
    attempt.job_log.write_text(f"muster: job 12\n{NODE_FAILED}\n")
    end(folder, state=State.failed, reason=gone.message, failure=gone)
    verdict = diagnose(folder, None).verdict
    assert verdict is not None
    assert (verdict.cause, verdict.host) == (Cause.node_fail, "n1")
    assert NODE_FAILED in verdict.message


def test_an_attempt_that_ended_before_python_began(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    attempt = begin(folder, pid=2**22 - 1)
    attempt.agent_log(0).write_text(
        "setup.sh: line 3: module: command not found\nmuster: job/setup.sh ended with 127\n"
    )
    found = diagnose(folder, None)
    assert found.verdict is not None
    assert (found.verdict.cause, found.verdict.message) == (Cause.unknown, "attempt 0 ended without a word")
    assert found.evidence[0].lines[-1] == "muster: job/setup.sh ended with 127"
    assert found.advice is not None
    assert any("cluster.setup" in text for text in found.advice.change)


STACK = """{"rank": 1, "phase": "train", "step": 12, "state": "S"}
Thread 0x01 (most recent call first):
  File "/usr/lib/threading.py", line 9 in wait

Thread 0x02 (most recent call first):
  File "/x/torch/distributed.py", line 77 in all_reduce
  File "/x/train/engine.py", line 5 in backward
"""


def test_a_hang_shows_where_each_rank_was_and_who_did_not_come(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    attempt = begin(folder)
    attempt.stacks.mkdir()
    for rank, number in ((0, 9), (1, 8)):
        attempt.stack(0, rank).write_text(STACK.replace('"rank": 1', f'"rank": {rank}'))
        entry = {"process_group": ["0", "default_pg"], "collective_seq_id": number, "profiling_name": "gloo:all_reduce"}
        attempt.flight(0, rank).write_text(json.dumps([{"entries": [entry]}]))
    quiet = "no sign of progress for 61 s in train after step 12 (limit 60 s)"
    write_failure(attempt, failure(Cause.user_code, 0, time=40.0))
    write_failure(attempt, failure(Cause.hang, 1, time=9.0, message=quiet))
    end(folder, state=State.failed, reason="hang")
    found = diagnose(folder, None)
    assert found.verdict is not None
    assert (found.verdict.cause, found.verdict.rank) == (Cause.hang, 1)
    shown = {each.source: each.lines for each in found.evidence}
    assert shown["the flight recorder"] == ("gloo:all_reduce (number 9): rank 0 waits, rank 1 did not come",)
    first = shown["where each rank was (attempts/0/stacks)"][0]
    assert first == "rank 1 (phase train step 12): distributed.py:77 all_reduce ← engine.py:5 backward"
    assert [change.key for change in found.changes] == ["health.limits_s.train"]


def test_what_slurm_said_of_another_attempt_counts_for_that_one_alone(tmp_path: Path) -> None:
    """A requeued job writes into one file over all its attempts."""
    folder = make_run(tmp_path)
    begin(folder, 0)
    begin(folder, 1)
    word = "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT t DUE TO NODE FAILURE"
    said = f"muster: attempt 0 of {folder.path}; more\n{word}"
    (folder.path / "slurm-12.log").write_text(f"{said}\nmuster: attempt 1 of {folder.path}; more\n")
    gone = Failure(-1, 0, "", 20.0, Cause.lost_peer, "the agents of nodes 1 are gone without a word")
    append(folder.events, {"event": "decision", "attempt": 0, "state": "failed", "reason": gone.message, "time": 1.0})
    end(folder, state=State.failed, reason=gone.message, failure=gone, attempt=1)
    causes = [diagnose(folder, None, number).verdict for number in (0, 1)]
    assert [verdict.cause if verdict else None for verdict in causes] == [Cause.node_fail, Cause.lost_peer]


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("CANCELLED by 0", Cause.cancelled),
        ("TIMEOUT", Cause.time_limit),
        ("NODE_FAIL", Cause.node_fail),
        ("RUNNING", Cause.lost_peer),
        ("PENDING", Cause.lost_peer),
    ],
)
@pytest.mark.parametrize("decision", ["", "requeue"], ids=["put back by Slurm", "put back by itself"])
def test_the_account_of_a_requeued_job_is_of_its_newest_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, cause: Cause, decision: str
) -> None:
    site = make_site(tmp_path, monkeypatch)
    (site / "sacct").write_text(f"#!/bin/bash\necho '12|{word}|0:0|00:05:00|n[1-2]'\n")
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    append(folder.submissions, {"event": "sent", "purpose": "train", "job_id": "12", "time": 1.0})
    gone = Failure(-1, 0, "", 20.0, Cause.lost_peer, "the agents of nodes 1 are gone without a word")
    by_files = (Cause.lost_peer, [])
    by_slurm = (cause, ["Slurm's accounting"]) if cause is not Cause.lost_peer else by_files

    def leave(number: int, decision: str) -> None:
        write_failure(begin(folder, number, job="slurm:12"), gone)
        ended = {"event": "decision", "attempt": number, "state": "failed", "reason": gone.message, "time": 1.0}
        append(folder.events, ended | {"decision": decision})
        end(folder, state=State.failed, reason=gone.message, attempt=number)

    def judged(number: int) -> tuple[Cause | None, list[str]]:
        found = diagnose(folder, {}, number)
        return found.verdict and found.verdict.cause, [each.source for each in found.evidence]

    leave(0, decision)
    assert judged(0) == (by_files if decision else by_slurm)
    leave(1, "")
    assert (judged(0), judged(1)) == (by_files, by_slurm)


def test_the_attempt_in_question(tmp_path: Path) -> None:
    """The newest by itself, any by its number; each with its own failure and what followed."""
    folder = make_run(tmp_path)
    write_failure(begin(folder, 0), failure(Cause.killed, message="killed by SIGKILL"))
    append(
        folder.events,
        {"event": "decision", "attempt": 0, "decision": "requeue", "state": "failed", "time": 30.0, "reason": "killed"},
    )
    write_failure(begin(folder, 1), failure(Cause.nan, 0))
    end(folder, state=State.failed, reason="nan", attempt=1)
    newest, first = diagnose(folder, None), diagnose(folder, None, 0)
    assert newest.verdict is not None
    assert first.verdict is not None
    assert (newest.verdict.cause, first.verdict.cause) == (Cause.nan, Cause.killed)
    assert [(story.number, story.followed) for story in first.stories] == [(0, "requeue"), (1, "")]
    assert cli.main(["why", str(folder.path), "--attempt", "7"]) == 4


def test_roll_backs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the line of the attempt, as evidence, in JSON; what helps is said where the run did not go back."""
    folder = make_run(tmp_path)
    write_failure(begin(folder), failure(Cause.nan, 0, message="the weights are broken"))
    append(folder.metrics, *({"step": step, "attempt": 0, "train/loss": 2.0} for step in (1, 12)))
    text = "the loss jumps to 9. Rolled back to the checkpoint of step 4"
    told = {"event": "warning", "about": "roll_back", "text": text, "attempt": 0, "step": 8, "to": 4}
    append(folder.events, told, {"event": "checkpoint", "attempt": 0, "step": 8})
    end(folder, state=State.failed, reason="nan", attempt=0)
    assert cli.main(["why", str(folder.path)]) == 0
    said = capsys.readouterr().out
    assert "steps 1–12, back to 4 after 8, saved 8" in said
    assert text in " ".join(said.split())
    assert re.search(r"health.non_finite\s+skip → roll_back", said)
    assert flat(diagnose(folder, None))["attempts"][0]["rolled_back"] == [{"step": 8, "to": 4}]


def test_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path)
    assert cli.main(["why", str(folder.path)]) == 0
    assert "not started" in capsys.readouterr().out
    begin(folder)
    end(folder, state=State.done, reason="all steps", step=100)
    assert cli.main(["why", str(folder.path)]) == 0
    said = capsys.readouterr().out
    assert "nothing is wrong: it is done" in said
    assert flat(diagnose(folder, None))["cause"] is None


def test_a_job_that_waits_says_why_and_what_helps(tmp_path: Path) -> None:
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    append(folder.submissions, {"event": "sent", "purpose": "train", "job_id": "12", "time": 1.0})
    job = Job("12", state="PENDING", reason="PartitionTimeLimit", start="N/A")
    found = diagnose(folder, {"12": job})
    assert found.verdict is None
    (note,) = found.notes
    assert "asks for more time than the partition allows (PartitionTimeLimit)" in note
    assert "`cluster.time`" in note


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to somebody else")
def test_a_run_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slurm is asked for the jobs by their ids: the question for one's own would not show them."""
    site = make_site(tmp_path, monkeypatch)
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    append(folder.submissions, {"event": "sent", "purpose": "train", "job_id": "12", "time": 1.0})
    put_in_queue(site, "12", "PENDING", folder.job_sbatch, mine=False)
    os.chown(folder.path, 12345, -1)
    assert cli.main(["why", str(folder.path)]) == 0
    assert "job 12 waits: waits for nodes to become free (Resources)" in capsys.readouterr().out


def test_a_refused_job_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    words = "sbatch: error: invalid partition specified: gpu"
    append(folder.submissions, {"event": "refused", "purpose": "train", "error": words, "time": 1.0})
    assert cli.main(["why", str(folder.path)]) == 0
    said = capsys.readouterr().out
    assert words in said
    assert "cluster.partition" in said


def test_every_class_has_advice_and_all_of_it_is_true() -> None:
    assert {advice.cause for advice in ADVICE} == set(Cause)
    keys = set(all_keys())
    groups = {key.rpartition(".")[0] for key in keys}
    named = [
        word
        for advice in ADVICE
        for text in (*advice.change, advice.meaning)
        for word in re.findall(r"`([a-z_]+\.[a-z_.]+)", text)
    ]
    assert len(named) > 20
    unknown = [word for word in named if word not in keys and word.rpartition(".")[0] not in keys | groups]
    assert unknown == []
    assert {name for advice in ADVICE for name in advice.remedies} == set(REMEDIES)


@pytest.mark.parametrize("advice", ADVICE, ids=lambda advice: advice.title)
def test_what_the_run_does_by_itself_is_what_is_decided(advice: Any) -> None:
    if advice.cause in STOPS:
        assert advice.again is (Again.asked if advice.cause is Cause.cancelled else Again.always)
    else:
        wanted = (
            Again.never if advice.cause in REPEATS else Again.always if advice.cause in MACHINES else Again.progress
        )
        assert advice.again is wanted


def test_special_advice_comes_before_the_general() -> None:
    assert "shared" not in advice_for(Cause.config, "OSError: [Errno 24] Too many open files").title
    assert (
        advice_for(Cause.config, "OSError: [Errno 24] Too many open files").title == "a limit of the system is too low"
    )
    assert advice_for(Cause.killed, "killed by SIGSEGV").title == "the process crashed in compiled code"
    assert advice_for(Cause.killed, "killed by SIGKILL").title == "the process was killed"


def test_the_page_is_made_from_the_table() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert page == troubleshooting(), "run: python -m launcher.why.page > docs/troubleshooting.md"


def test_pending_reasons_that_a_person_can_change() -> None:
    harmless = {
        "None",
        "FrontEndDown",
        "Cleaning",
        "Prolog",
        "SystemFailure",
        "RaisedSignal",
        "NonZeroExitCode",
        "TimeLimit",
    }
    without = {reason for reason in REASONS if not advice_on(reason)} - harmless
    assert without == set()


def test_a_sweep_shows_its_failed_points_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = []
    for number, cause in enumerate([None, Cause.nan, Cause.cuda_oom, Cause.nan]):
        folder = make_run(tmp_path, name=f"point{number}")
        attempt = begin(folder)
        if cause is None:
            end(folder, state=State.done, reason="all steps", step=100)
        else:
            write_failure(attempt, failure(cause, message=f"{cause.value} in point {number}"))
            end(folder, state=State.failed, reason=cause.value)
        points.append(SweptPoint([f"train.seed={number}"], folder.path.name, str(folder.path), str(number)))
    place = tmp_path / "sweeps" / "seeds-01234567"
    place.mkdir(parents=True)
    (place / "sweep.json").write_bytes(encode_sweep(Sweep("seeds-01234567", "submit", [], "/", points)))
    assert cli.main(["why", "seeds", "--run-root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 of 4 points ended badly"
    assert [line for line in lines if line and not line.startswith(" ")][1:3] == [
        "nan: loss or gradients became NaN or infinite",
        "cuda_oom: GPU memory ran out",
    ]
    assert f"    {points[1].run_id}: nan in point 1" in lines
    assert cli.main(["why", "seeds", "--run-root", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(point["point"], point["cause"]) for point in told["points"]] == [
        ("train.seed=1", "nan"),
        ("train.seed=2", "cuda_oom"),
        ("train.seed=3", "nan"),
    ]
    assert cli.main(["why", "nobody", "--run-root", str(tmp_path)]) == 4
