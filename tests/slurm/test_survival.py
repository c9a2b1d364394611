"""What clusters do to runs, with the real training: preemption, killed ranks, jobs in a row, secrets in the shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from tests.slurm.live import (
    TWO_NODES,
    decision,
    job_of,
    lines,
    metrics,
    outcome,
    process_of,
    start_now,
    submit,
    wait_for,
    wait_for_end,
    wait_for_step,
)  # fmt: skip
from tests.slurm.person import Person

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(580)]

SECRETS = {
    "WANDB_API_KEY": "canary-wandb-5f1c",
    "HF_TOKEN": "hf_canary8d2e",
    "HTTPS_PROXY": "http://someone:canary-proxy-77@proxy.invalid:8080",
    "https_proxy": "http://someone:canary-proxy-77@proxy.invalid:8080",
}


@pytest.fixture
def work(person: Person) -> Path:
    return person.home


def first_step(folder_metrics: list[dict[str, int]], attempt: int) -> int:
    return next(line["step"] for line in folder_metrics if line["attempt"] == attempt and "train/loss" in line)


def test_preempted_then_sent_by_hand(person: Person, work: Path) -> None:
    """Preemption saves, requeues and goes on; stopped, then `sbatch RUN/job.sbatch` goes on too; no secret anywhere."""
    words = [
        *TWO_NODES,
        "name=yields",
        "cluster.partition=preempt",
        "cluster.requeue=true",
        "cluster.nodelist='node3,node4'",
        "train.max_steps=5000",
    ]
    folder, run_id = submit(person, work, *words, **SECRETS)
    job = job_of(folder)
    script = person.run("scontrol", "write", "batch_script", str(job), "-").stdout
    wait_for_step(folder, 3)
    wanted = ["--partition=main", "--nodes=2", "--nodelist=node3,node4", "--exclusive", "--output=/dev/null"]
    hog = person.run("sbatch", "--parsable", *wanted, "--wrap=exit 0")
    assert hog.stdout.strip().isdigit()
    wait_for(lambda: outcome(folder).get("state") == "preempted", folder, "preemption")
    saved = outcome(folder)["step"]
    start_now(person, job, folder)
    wait_for_step(folder, saved + 2, attempt=1)
    assert saved >= 3
    assert first_step(metrics(folder), 1) == saved + 1

    argv = [str(person.python), "-m", "muster", "logs", run_id, "-f"]
    with subprocess.Popen(
        argv, cwd=work, env=person.environment, stdout=subprocess.PIPE, text=True, **person.identity
    ) as follower:  # type: ignore[call-overload]
        person.muster("stop", run_id, cwd=work)
        wait_for_end(folder, "stopped")
        said, _ = follower.communicate(timeout=60)  # it ends with the run
    assert "step " in said

    at = outcome(folder)["step"]
    folder.stop.unlink(missing_ok=True)
    by_hand = person.run("sbatch", "--parsable", str(folder.job_sbatch), cwd=Path("/"), **SECRETS).stdout.strip()
    wait_for_step(folder, at + 1, attempt=2)
    assert first_step(metrics(folder), 2) == at + 1
    person.run("scancel", by_hand)

    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(files) > 20
    written = {path: path.read_bytes() for path in files}
    written[Path("batch script")] = script.encode()
    leaks = [str(path) for path, content in written.items() if b"canary" in content]
    assert leaks == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the other user's open files")
def test_a_killed_rank_is_named_and_only_progress_goes_on(person: Person, work: Path) -> None:
    """SIGKILL after a checkpoint: requeued. The same again before a newer one: the end, with rank and host."""
    folder, _ = submit(person, work, *TWO_NODES, "name=shot", "train.max_steps=5000", "checkpoint.save_steps=4")
    wait_for(lambda: folder.checkpoint(4).exists(), folder, "a checkpoint")
    kill(folder, attempt=0)
    wait_for(lambda: decision(folder, 0), folder, "a decision")
    assert decision(folder, 0) == "requeue"
    failure = outcome(folder)["failure"]
    assert (failure["rank"], failure["cause"]) == (1, "killed")
    (host,) = {report["host"] for report in reports(folder, 0) if report["node"] == 1}
    assert failure["host"] == host
    assert f"rank 1 on {host}" in outcome(folder)["reason"]

    start_now(person, job_of(folder), folder)
    wait_for(lambda: folder.attempt(1).rank_log(1, 1).exists(), folder, "the second attempt")
    kill(folder, attempt=1)
    wait_for(lambda: decision(folder, 1), folder, "a decision")
    assert (decision(folder, 1), outcome(folder)["state"]) == ("end", "failed")


def kill(folder: RunFolder, attempt: int) -> None:
    os.kill(process_of(folder.attempt(attempt).rank_log(1, 1)), signal.SIGKILL)


def reports(folder: RunFolder, attempt: int) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.attempt(attempt).agent_reports.glob("*.json")]


def test_data_job_then_ranks_then_export_job(person: Person, work: Path) -> None:
    """Three jobs that wait for each other; states of another ZeRO stage are refused without a job."""
    words = [*TWO_NODES, "name=chain", "train.max_steps=6", "data.prepare=job", "checkpoint.export=job"]
    folder, run_id = submit(person, work, *words)
    sent = [line["purpose"] for line in lines(folder.submissions) if line["event"] == "sent"]
    assert sent == ["prepare", "train", "export"]
    wait_for(lambda: (folder.export / "config.json").exists(), folder, "the export", after_end=True)
    verbs = [json.loads(folder.attempt(number).job.read_text())["verb"] for number in range(3)]
    assert verbs == ["prepare", "agent", "export"]
    assert outcome(folder)["state"] == "done"
    assert [line["step"] for line in metrics(folder) if "train/loss" in line] == list(range(1, 7))

    newest = str(job_of(folder))
    wait_for(
        lambda: newest not in person.run("squeue", "-h", "-o", "%i").stdout.split(), folder, "its end", after_end=True
    )
    argv = [str(person.python), "-m", "muster", "resume", run_id, "--force", "parallel.zero_stage=1"]
    refused = person.run(*argv, "train.max_steps=9", cwd=work, check=False)
    assert refused.returncode == 2
    assert "cannot load the checkpoint of step 6, which is of ZeRO-3" in refused.stderr
    assert len(lines(folder.submissions)) == 6
