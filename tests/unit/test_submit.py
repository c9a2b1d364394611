"""Sending: what sbatch gets, what is noted, that nothing is sent twice. Small scripts stand in for Slurm's commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from conf.record import read_plan
from conf.schema import ClusterKind
from launcher import cli
from launcher.problems import SchedulerError
from launcher.runs.submissions import EXPORT, PREPARE, TRAIN, read_submissions, write_line
from launcher.send import ask
from launcher.send.submit import ask_first, send, send_all
from tests.unit.runs import begin, make_run
from tests.unit.slurm_site import calls, make_site, put_in_queue

REFUSING = """#!/bin/bash
echo "sbatch: error: invalid partition specified: gold" >&2
echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
exit 1
"""

NOT_YET = """#!/bin/bash
echo "allocation failure: Requested node configuration is not available" >&2
exit 1
"""
REGISTERED_THE_SECOND_TIME = """#!/bin/bash
echo unknown
cp "$(dirname "$0")/sbatch.later" "$(dirname "$0")/sbatch"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_site(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs", kind=ClusterKind.slurm)


def test_a_run_is_asked_for_sent_and_noted(folder: RunFolder, site: Path) -> None:
    plan = read_plan(folder.run_json)
    estimate = ask_first(plan, {"job.sbatch": folder.job_sbatch.read_bytes()})
    assert "2026-01-01T00:00:00 on n1" in estimate
    assert send_all(folder, plan) == "42"
    assert [line.split()[-1] for line in calls(site)][1:] == [str(folder.job_sbatch)]
    noted = [json.loads(line) for line in folder.submissions.read_text().splitlines()]
    assert [(line["event"], line.get("job_id")) for line in noted] == [("sending", None), ("sent", "42")]


def test_a_controller_that_came_back_is_asked_until_its_nodes_have_registered(folder: RunFolder, site: Path) -> None:
    (site / "sbatch").rename(site / "sbatch.later")
    for name, text in {"sbatch": NOT_YET, "sinfo": REGISTERED_THE_SECOND_TIME}.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    assert "on n1" in ask_first(read_plan(folder.run_json), {"job.sbatch": folder.job_sbatch.read_bytes()})


def test_a_refusal_is_verbatim_with_the_key(folder: RunFolder, site: Path) -> None:
    (site / "sbatch").write_text(REFUSING)
    plan = read_plan(folder.run_json)
    plan.config.cluster.partition = "gold"
    for act in (lambda: send(folder, plan), lambda: ask_first(plan, {"job.sbatch": b"#!/bin/bash\n"})):
        with pytest.raises(SchedulerError, match="Invalid partition name specified") as refusal:
            act()
        assert str(refusal.value).endswith("about: cluster.partition=gold")
        assert refusal.value.exit_code == 3
    assert read_submissions(folder) == []
    assert "gold" in folder.submissions.read_text()


def test_a_submission_that_broke_off_is_found_and_not_sent_again(folder: RunFolder, site: Path) -> None:
    plan = read_plan(folder.run_json)
    write_line(folder, "sending", TRAIN)
    write_line(folder, "sent", TRAIN, job_id=5)
    write_line(folder, "sending", TRAIN)
    put_in_queue(site, "5", "RUNNING", folder.job_sbatch)
    put_in_queue(site, "17", "PENDING", folder.job_sbatch)
    assert send(folder, plan) == "17"
    assert not (site / "calls").exists()
    assert [sent.job_id for sent in read_submissions(folder)] == ["5", "17"]


def test_jobs_around_the_run_wait_for_each_other(folder: RunFolder, site: Path) -> None:
    plan = read_plan(folder.run_json)
    folder.job.prepare_sbatch.write_text("#!/bin/bash\n")
    job = send_all(folder, plan)
    prepare, train = calls(site)
    assert prepare.split()[-1] == str(folder.job.prepare_sbatch)
    assert "--dependency=afterok:41" in train.split()
    assert [(sent.purpose, sent.job_id) for sent in read_submissions(folder)] == [(PREPARE, "41"), (TRAIN, job)]
    folder.data_json.write_text("{}")
    assert send(folder, plan, EXPORT, words=["--step", "5"]) == "43"
    assert calls(site)[-1].split()[-3:] == [str(folder.job.export_sbatch), "--step", "5"]


def test_stop_takes_a_waiting_run_out_of_the_queue(folder: RunFolder, site: Path) -> None:
    job = send(folder, read_plan(folder.run_json))
    put_in_queue(site, job, "PENDING", folder.job_sbatch)
    assert "left the queue" in ask.stop(folder)
    assert calls(site)[-1] == f"scancel {job}"
    outcome = read_outcome(folder.outcome)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == (State.stopped, "stopped before it started")


def test_stop_pokes_a_running_job_and_cancels_what_would_follow(folder: RunFolder, site: Path) -> None:
    plan = read_plan(folder.run_json)
    job = send(folder, plan)
    follower = send(folder, plan, EXPORT, after=f"afterok:{job}")
    put_in_queue(site, job, "RUNNING", folder.job_sbatch)
    put_in_queue(site, follower, "PENDING", folder.job.export_sbatch)
    begin(folder, 0, job=f"slurm:{job}", host="n1")
    assert "saves and ends" in ask.stop(folder)
    assert calls(site)[-2:] == [f"scancel {follower}", f"scancel --batch --signal=USR2 {job}"]
    assert folder.stop.read_text() == "stopped\n"
    assert read_outcome(folder.outcome) is None
    assert "is cancelled" in ask.cancel(folder)
    assert folder.stop.read_text() == "cancelled\n"
    assert calls(site)[-1] == f"scancel {job}"


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_several_runs_are_ended_whatever_becomes_of_the_others(
    verb: str, folder: RunFolder, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--run-root", str(folder.path.parent)]
    make_run(folder.path.parent, "idle", kind=ClusterKind.slurm)
    make_run(folder.path.parent, "broken", kind=ClusterKind.slurm).run_json.write_text("{")
    job = send(folder, read_plan(folder.run_json))
    put_in_queue(site, job, "PENDING", folder.job_sbatch)
    assert cli.main([verb, "demo", "nobody", "noone", *where]) == 4
    said = capsys.readouterr()
    assert ("no run 'nobody'" in said.err, "no run 'noone'" in said.err, said.out) == (True, True, "")
    assert read_outcome(folder.outcome) is None
    assert cli.main([verb, "idle", "broken", "demo", "demo", *where]) == 1
    said = capsys.readouterr()
    assert "is not running: prepared" in said.err
    assert "run.json is not a plan" in said.err
    assert [line.split()[0] for line in said.out.splitlines()] == [folder.path.name]
    assert calls(site)[-1] == f"scancel {job}"
    assert read_outcome(folder.outcome) is not None
