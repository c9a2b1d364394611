"""status, logs, stop, cancel and resume on real run folders, with real processes where one has to be alive."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.outcome import Cause, Failure, State, read_outcome
from conf.record import read_plan
from conf.schema import ClusterKind, Packing
from launcher import cli
from launcher.plan.content import content_of
from launcher.problems import ConfigurationError
from launcher.runs.saved import conversion, require_loadable
from launcher.runs.standing import stand
from launcher.runs.submissions import TRAIN, read_submissions, unanswered, write_line
from launcher.send.foreground import find_earlier
from launcher.send.replan import replan, write_again
from slurm.parse import Job
from tests.unit.runs import append, begin, end, make_run, metrics, write_failure

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)


@pytest.fixture
def agent(folder: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """A live process that looks like the run's agent: its arguments name the run folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, "agent", str(folder.path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    begin(folder, 0, job=f"local:{process.pid}", pid=process.pid)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def status(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert cli.main(["status", "--json", "--run-root", str(root), *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_status_of_a_run_from_its_first_to_its_last_moment(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(tmp_path, capsys)[0]["state"] == "prepared"
    begin(folder, 0, pid=2**22 + 1)
    append(folder.metrics, metrics(9, 3.0), metrics(10, 2.5, **{"perf/tokens_per_second": 900.0}))
    gone = status(tmp_path, capsys)[0]
    assert (gone["state"], gone["reason"], gone["step"]) == ("failed", "attempt 0 ended without a word", 10)
    end(folder, state=State.stopped, reason="asked to", step=10)
    assert status(tmp_path, capsys)[0]["state"] == "stopped"
    begin(folder, 1, pid=2**22 + 1)
    append(folder.metrics, {"step": 8, "attempt": 1, "time": 1.0, "eval/loss": 2.0})
    assert status(tmp_path, capsys)[0]["step"] == 10
    append(folder.metrics, metrics(8, 3.1, attempt=1), metrics(9, 2.4, attempt=1))
    again = status(tmp_path, capsys, "demo")[0]
    assert (again["state"], again["attempt"], again["step"], again["loss"]) == ("failed", 1, 9, 2.4)
    end(folder, state=State.done, reason="all steps", step=100, attempt=1)
    done = status(tmp_path, capsys, str(folder.path))[0]
    assert (done["state"], done["live"], done["eta_s"]) == ("done", False, None)


def test_status_table_and_details(folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_run(tmp_path, "other")
    begin(other)
    end(other, state=State.failed, reason="rank 1: boom", step=3)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{}")
    assert cli.main(["status", "--run-root", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    rows = captured.out.splitlines()
    assert rows[0].split()[:3] == ["run", "state", "step"]
    assert {row.split()[0]: row.split()[1] for row in rows[1:]} == {
        folder.path.name: "prepared",
        other.path.name: "failed",
    }
    assert "rank 1: boom" in captured.out
    assert "broken" in captured.err
    assert cli.main(["status", "-w", "--run-root", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["status", "other", "--run-root", str(tmp_path)]) == 0
    details = capsys.readouterr().out
    assert f"muster why {other.path.name}" in details
    assert str(other.path) in details


JOB_CASES = {
    "waits": (
        Job("7", state="PENDING", reason="Resources"),
        None,
        "queued",
        "waits for nodes to become free (Resources)",
    ),
    "runs": (Job("7", state="RUNNING"), None, "running", ""),
    "runs again after a time limit": (Job("7", state="RUNNING"), State.time_limit, "running", ""),
    "waits after a preemption": (Job("7", state="PENDING", reason="BeginTime"), State.preempted, "queued", None),
    "is completing": (Job("7", state="COMPLETING"), State.done, "done", "because"),
    "is gone, never started": (None, None, "failed", "job 7 left the queue before it started"),
    "is gone, done": (None, State.done, "done", "because"),
}


@pytest.mark.parametrize(("job", "ended", "state", "reason"), JOB_CASES.values(), ids=JOB_CASES)
def test_standing_of_a_slurm_run(
    tmp_path: Path, job: Job | None, ended: State | None, state: str, reason: str | None
) -> None:
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    write_line(folder, "sending", TRAIN)
    write_line(folder, "sent", TRAIN, job_id=7)
    if ended is not None:
        begin(folder, 0, job="slurm:7", host="node1")
        end(folder, state=ended, reason="because")
    standing = stand(folder, {"7": job} if job else {})
    assert standing.state.value == state
    assert reason in (None, standing.reason)
    assert standing.live == (job is not None and state in ("queued", "running"))
    blind = stand(folder, None)
    assert blind.live == (ended is None)


CHAIN_CASES = {
    "the first still runs": ("RUNNING", None, "", "running", True),
    "the next one waits for its turn": (None, State.time_limit, "requeue", "queued", True),
    "the first one is not gone yet": ("COMPLETING", State.failed, "requeue", "queued", True),
    "after a crash too": (None, State.failed, "requeue", "queued", True),
    "the run is done, the next one not gone yet": (None, State.done, "end", "done", False),
    "stopped": (None, State.stopped, "end", "stopped", False),
}


@pytest.mark.parametrize(("first", "ended", "word", "state", "live"), CHAIN_CASES.values(), ids=CHAIN_CASES)
def test_standing_of_a_chain(
    tmp_path: Path, first: str | None, ended: State | None, word: str, state: str, live: bool
) -> None:
    """A job that waits for the one before it is no sign of life once the run has ended."""
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    write_line(folder, "sent", TRAIN, job_id="7")
    write_line(folder, "sent", TRAIN, job_id="8", after="7")
    attempt = begin(folder, 0, job="slurm:7", host="node1")
    if ended is not None:
        end(folder, state=ended, reason="because")
        attempt.decision.write_text(f"{word}\n")
    jobs = {"8": Job("8", state="PENDING", reason="Dependency")}
    jobs |= {"7": Job("7", state=first)} if first else {}
    standing = stand(folder, jobs)
    assert (standing.state.value, standing.live) == (state, live)
    assert [sent.after for sent in read_submissions(folder)] == ["", "7"]


def test_submissions_say_what_was_answered(folder: RunFolder) -> None:
    assert unanswered(folder, TRAIN) is None
    write_line(folder, "sending", TRAIN)
    assert unanswered(folder, TRAIN) is not None
    assert unanswered(folder, "export") is None
    write_line(folder, "refused", TRAIN, error="no")
    assert unanswered(folder, TRAIN) is None
    write_line(folder, "sending", TRAIN)
    write_line(folder, "sent", TRAIN, job_id="12")
    assert unanswered(folder, TRAIN) is None
    assert [sent.job_id for sent in read_submissions(folder)] == ["12"]
    assert folder.submissions.stat().st_mode & 0o777 == 0o600


def test_stop_writes_the_word_once_and_leaves_the_agent_alone(
    folder: RunFolder, agent: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder.events, {"event": "phase", "phase": "prepare", "done": 3, "total": 9, "unit": "train"})
    standing = status(tmp_path, capsys)[0]
    assert (standing["job"], standing["reason"]) == (f"local:{agent.pid}", "preparing data: train, 33%")
    assert cli.main(["stop", "demo", "--run-root", str(tmp_path)]) == 0
    assert folder.stop.read_text() == "stopped\n"
    assert folder.stop.stat().st_mode & 0o777 == 0o600
    assert agent.poll() is None
    assert "saves and ends" in capsys.readouterr().out
    assert status(tmp_path, capsys, "demo")[0]["reason"] == "stopping: stopped"
    assert read_outcome(folder.outcome) is None


def test_pace_and_total_of_an_earlier_attempt_do_not_count(
    folder: RunFolder, agent: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder.events, {"event": "phase", "phase": "train", "total": 60, "attempt": 0})
    speed = {"perf/tokens_per_second": 900.0}
    append(folder.metrics, metrics(9, 3.0, **speed), metrics(10, 2.5, **speed))
    before = status(tmp_path, capsys)[0]
    assert (before["total_steps"], before["eta_s"], before["tokens_per_second"]) == (100, 90.0, 900.0)
    begin(folder, 1, job=f"local:{agent.pid}", pid=agent.pid)
    after = status(tmp_path, capsys)[0]
    assert (after["state"], after["step"], after["eta_s"], after["tokens_per_second"]) == ("running", 10, None, None)


def test_cancel_ends_the_agent_now_and_says_so(
    folder: RunFolder, agent: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert cli.main(["cancel", "demo", "--run-root", str(tmp_path)]) == 0
    assert agent.wait(timeout=10) == -signal.SIGTERM
    assert time.monotonic() - started < 60
    outcome = read_outcome(folder.outcome)
    assert outcome is not None
    assert (outcome.state, outcome.attempt) == (State.cancelled, 0)
    assert folder.stop.read_text() == "cancelled\n"
    assert cli.main(["cancel", "demo", "--run-root", str(tmp_path)]) == 1
    assert "is not running: cancelled" in capsys.readouterr().err


def test_a_process_id_used_again_is_nobody(folder: RunFolder) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        begin(folder, 0, job=f"local:{bystander.pid}", pid=bystander.pid)
        assert cli.main(["cancel", str(folder.path)]) == 1
        assert bystander.poll() is None
        assert not folder.stop.exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_nothing_starts_on_a_live_run(
    folder: RunFolder, agent: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["resume", str(folder.path)], ["export", str(folder.path)]):
        assert cli.main(words) == 1
        assert f"is running already (local:{agent.pid})" in capsys.readouterr().err


def test_logs_by_rank_attempt_and_first_error(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder.path)
    assert cli.main(["logs", run]) == 4
    first, second = begin(folder, 0), begin(folder, 1)
    first.rank_log(0, 0).write_text("old\n")
    second.agent_log(0).write_text("agent speaks\n")
    assert cli.main(["logs", run]) == 0
    assert "agent speaks" in capsys.readouterr().out
    second.rank_log(0, 0).write_text("".join(f"line {index}\n" for index in range(100)))
    second.rank_log(1, 3).write_text("rank three\n")
    end(folder, state=State.failed, reason="x", attempt=1)
    for words, expected in {
        ("-n", "2", "-f"): "line 98\nline 99\n",
        ("--rank", "3"): "rank three\n",
        ("--attempt", "0"): "old\n",
    }.items():
        assert cli.main(["logs", run, *words]) == 0
        assert capsys.readouterr().out.partition("<==\n")[2] == expected
    assert cli.main(["logs", run, "--json", "-n", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"] == ["line 99"]
    assert cli.main(["logs", run, "--rank", "9"]) == 4
    assert cli.main(["logs", run, "--attempt", "5"]) == 4
    assert "there are 0 to 1" in capsys.readouterr().err
    assert cli.main(["logs", run, "--first-error"]) == 4
    bad = Failure(rank=3, node=1, host="n", time=1.0, cause=Cause.data, message="KeyError: 'text'")
    write_failure(second, bad)
    assert cli.main(["logs", run, "--first-error"]) == 0
    assert "KeyError: 'text'" in capsys.readouterr().out
    assert cli.main(["logs", run, "--first-error", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rank"] == 3


def test_the_first_attempt_s_log_is_followed_to_its_end_alone(
    folder: RunFolder, agent: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder.attempt(0).rank_log(0, 0).write_text("old\n")
    begin(folder, 1, job=f"local:{agent.pid}", pid=agent.pid).rank_log(0, 0).write_text("new\n")
    assert cli.main(["logs", str(folder.path), "-f", "--attempt", "0"]) == 0
    assert agent.poll() is None
    assert capsys.readouterr().out.partition("<==\n")[2] == "old\n"


def test_resume_refuses_what_is_done_or_would_be_another_run(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 32)
    begin(folder)
    end(folder, state=State.done, reason="all steps", step=100)
    assert cli.main(["resume", str(folder.path)]) == 2
    assert "is done; give it more steps to go on; nearest: train.max_steps=200" in capsys.readouterr().err
    before = folder.run_json.read_bytes()
    assert cli.main(["resume", str(folder.path), "optim.learning_rate=1", "train.max_steps=50"]) == 2
    said = capsys.readouterr().err
    assert "optim.learning_rate=1.0 was 1e-05 and may not change between attempts" in said
    assert "train.max_steps=50 was 100 and may only grow between attempts; nearest: 100" in said
    assert "--force" in said
    assert folder.run_json.read_bytes() == before


def test_changed_files_are_written_again_and_the_code_stays(folder: RunFolder) -> None:
    plan = read_plan(folder.run_json)
    artifacts = {
        path.relative_to(folder.path).as_posix(): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()
    }
    changed = {**artifacts, "code/muster.zip": b"other", "config.yaml": b"new\n", "job.sbatch": b"#!/bin/bash\n"}
    del changed["job.sh"]
    write_again(folder, plan, changed)
    assert folder.muster_zip.read_bytes() == b"zip"
    assert folder.config_yaml.read_bytes() == b"new\n"
    assert folder.job_sbatch.stat().st_mode & 0o777 == 0o600
    assert not folder.job_sh.exists()
    assert read_plan(folder.run_json) == plan


def saved_by(folder: RunFolder, step: int, ranks: int, stage: int) -> None:
    folder.checkpoint(step).mkdir(parents=True)
    said = {"world_size": ranks, "step": step, "zero_stage": stage}
    folder.manifest(step).write_text(json.dumps(said))


def test_other_ranks_than_those_that_saved_are_said_and_another_stage_is_refused(folder: RunFolder) -> None:
    """The newest checkpoint decides; one that was put aside does not count, nor does one that was converted."""
    plan = read_plan(folder.run_json)
    stage = plan.config.parallel.zero_stage
    require_loadable(folder, plan)  # nothing was saved yet
    assert conversion(folder, plan) == ""
    saved_by(folder, 5, 4, stage)
    assert conversion(folder, plan) == "step 5 was saved by 4 ranks and will be converted for 2"
    saved_by(folder, 10, 2, stage)
    for ending in (".bad", ".universal"):
        shutil.copytree(folder.checkpoint(5), folder.checkpoints / f"step-00000015{ending}")
    require_loadable(folder, plan)
    assert conversion(folder, plan) == ""

    more = dataclasses.replace(plan, topology=dataclasses.replace(plan.topology, nodes=2))
    assert conversion(folder, more) == "step 10 was saved by 2 ranks and will be converted for 4"
    other = dataclasses.replace(plan.config.parallel, zero_stage=0)
    forced = dataclasses.replace(plan, config=dataclasses.replace(plan.config, parallel=other))
    with pytest.raises(ConfigurationError, match=rf"zero_stage=0 cannot load .* of ZeRO-{stage}.*nearest: {stage}"):
        find_earlier(forced)


def test_other_ranks_take_their_batch_from_the_table_and_those_without_a_layout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a b c"}\n' * 20)
    folder = make_run(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    plan = read_plan(folder.run_json)
    plan.config.data.packing = Packing.none
    assert sorted(plan.layouts) == [1, 2, 3, 4]
    plan.layouts.pop(3)  # as without packing: 8 documents are no multiple of 3 ranks

    proposal, lines = replan(plan, ["cluster.ranks_per_node=4"], None, force=False)
    batch = proposal.plan.layout.batch
    assert (batch.world_size, batch.micro_batch_size, batch.accumulation) == (4, 2, 1)
    assert lines == []
    assert content_of(proposal.plan.config) == content_of(plan.config)
    assert proposal.plan.run_id == plan.run_id

    with pytest.raises(
        ConfigurationError, match=r"makes 3 ranks, and the run has no layout for them; nearest: 1, 2, 4"
    ):
        replan(plan, ["cluster.ranks_per_node=3"], None, force=False)
