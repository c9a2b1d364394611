"""The static job script: its shell, its file names, and `local` mode with a stand-in for Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conf.layout import JobFiles, RunFolder
from slurm.scripts import read_body
from tests.unit.runs import write_job
from train.node.env import NODE_NAMES

BODY = Path(__file__).parents[2] / "slurm" / "body.sh"
SCRIPTS = [BODY, BODY.with_name("follow.sh"), BODY.parent / "devcluster" / "node.sh"]

PROGRAM = """\
#!/bin/bash
env >"$5/seen"
printf '%s\\n' "$@" >"$5/words"
while [[ -e $5/WAIT ]]; do sleep 0.05; done
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_reads_it(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck() -> None:
    done = subprocess.run(["shellcheck", *map(str, SCRIPTS)], cwd=BODY.parents[1], capture_output=True, text=True)
    assert done.stdout == ""


def test_names_agree_with_the_layout() -> None:
    text = read_body().decode()
    files = JobFiles(Path("job"))
    named = {files.env, files.allow, files.setup, files.srun, files.python, files.settings, files.body}
    named |= {files.export_sbatch}
    assert set(re.findall(r"\$run/(job/[a-z.]+)", text)) == {str(path) for path in named}
    run = RunFolder(Path("$run"))
    for path in (run.stop, run.lock, run.outcome, run.attempts, run.muster_zip, run.submissions, run.job_sbatch):
        assert str(path) in text, path
    attempt = run.attempt(0)
    parts = (attempt.job, attempt.decision, attempt.job_log, attempt.logs, attempt.failures, attempt.agent_reports)
    for own in (*parts, attempt.lead):
        assert f"$folder/{own.relative_to(attempt.folder)}" in text, own
    assert "logs/node%n-agent.log" in text
    assert attempt.agent_log(0).name == "node0-agent.log"


def test_every_name_that_the_nodes_read_is_set() -> None:
    text = BODY.read_text()
    assert len(NODE_NAMES) >= 8
    for name in NODE_NAMES:
        assert re.search(rf"\b{name}=", text), name


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "a run%j 'x'")
    content = {
        folder.job.settings: f"scratch={tmp_path}/scratch\nextensions=torch-1/../x\n",
        folder.job.env: "FROM_FILE=$(touch pwned) \"a\" 'b' `c`\n1BAD=x\n",
        folder.job.allow: "KEPT_*\nx[$(touch pwned)]\n",
        folder.job.setup: "export FROM_SETUP=$WITH_FUNCTION\n",
    }
    return write_job(folder, PROGRAM, content)


SHELL = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nowhere",
    "KEPT_ONE": "kept",
    "LOST": "lost",
    "MUSTER_RUN": "stale",
    "PYTHONPATH": "/evil",
    "WANDB_API_KEY": "key",
    "BASH_FUNC_evil%%": "() { echo evil; }",
}


def start(run: RunFolder, *words: str) -> subprocess.Popen[str]:
    argv = ["bash", str(run.job.body), "local", str(run.path), *words]
    return subprocess.Popen(argv, env=SHELL, cwd=run.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_local_run(run: RunFolder, tmp_path: Path) -> None:
    process = start(run)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    seen = dict(line.split("=", 1) for line in (run.path / "seen").read_text().splitlines() if "=" in line)
    assert {name: seen.get(name) for name in ("KEPT_ONE", "FROM_FILE", "WANDB_API_KEY", "FROM_SETUP")} == {
        "KEPT_ONE": "kept",
        "FROM_FILE": "$(touch pwned) \"a\" 'b' `c`",
        "WANDB_API_KEY": "key",
        "FROM_SETUP": "",
    }
    assert not {"LOST", "PYTHONPATH", "BASH_FUNC_evil%%", "1BAD"} & set(seen)
    assert seen["MUSTER_RUN"] == str(run.path)
    assert (seen["MUSTER_ATTEMPT"], seen["MUSTER_NODES"], seen["MUSTER_NODE_RANK"]) == ("0", "1", "0")
    assert seen["MUSTER_JOB"] == f"local:{process.pid}"
    assert seen["TMPDIR"].startswith(str(tmp_path / "scratch"))
    assert Path(seen["TORCH_EXTENSIONS_DIR"]).name == "torch-1-..-x"
    assert (run.path / "words").read_text().splitlines() == ["-I", "-u", str(run.muster_zip), "agent", str(run.path)]
    job = json.loads(run.attempt(0).job.read_text())
    assert (job["job"], job["pid"], job["attempt"]) == (f"local:{process.pid}", process.pid, 0)
    assert run.attempt(0).agent_log(0).exists()
    assert not list(tmp_path.rglob("pwned"))
    _wait_until(lambda: not list((tmp_path / "scratch").glob("*/job-*")) and not run.lock.exists())


def test_words_and_the_next_attempt(run: RunFolder) -> None:
    start(run).communicate(timeout=30)
    process = start(run, "export", "--step", "7")
    process.communicate(timeout=30)
    assert (run.path / "words").read_text().splitlines()[3:] == ["export", str(run.path), "--step", "7"]
    assert run.attempt(1).job.exists()


@pytest.mark.parametrize(
    ("word", "starts"), [("stopped", False), ("cancelled", False), ("time_limit", True), ("preempted", True)]
)
def test_an_old_stop(word: str, starts: bool, run: RunFolder) -> None:
    run.stop.write_text(f"{word}\n")
    start(run).communicate(timeout=30)
    assert run.attempt(0).folder.exists() == starts
    assert run.stop.exists() != starts
    if starts:
        assert (run.attempt(0).folder / "STOP.old").read_text() == f"{word}\n"


def test_one_job_at_a_time_and_a_dead_one_does_not_hold(run: RunFolder) -> None:
    (run.path / "WAIT").touch()
    first = start(run)
    _wait_until((run.path / "seen").exists)
    second = start(run)
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"local:{first.pid} holds the run" in said
    first.send_signal(signal.SIGKILL)  # and nobody asks for its end, so that its number stays
    _wait_until(lambda: not run.lock.exists())
    (run.path / "WAIT").unlink()
    record = run.attempt(0).job
    for pid in (first.pid, os.getpid()):  # the second: a number that another process has by now
        run.lock.write_text(f"local:{pid}\n")
        record.write_text(record.read_text().replace(str(first.pid), str(pid)))
        third = start(run)
        said, _ = third.communicate(timeout=30)
        assert third.returncode == 0, said
        assert f"local:{pid} is gone" in said
        _wait_until(lambda: not run.lock.exists())  # it is let go of after the job's end
    first.communicate(timeout=30)


HERE = Path("/proc/sys/kernel/hostname").read_text().strip()


@pytest.mark.parametrize(
    ("owner", "stays"),
    [
        (f"{HERE} {os.getpid()}", True),
        (f"{HERE} 999999999", False),
        (f"other-{HERE} 999999999", True),
    ],
    ids=["at-work", "killed", "of-another-host"],
)
def test_folders_of_killed_jobs_of_this_host_go_and_their_builds_are_free(
    owner: str, stays: bool, run: RunFolder, tmp_path: Path
) -> None:
    """Where another job is there it may be compiling: its lock goes when it is older than any build."""
    base = tmp_path / "scratch" / f"muster-{os.getuid()}"
    job = base / "job-slurm-5-0-0"
    new, old = (base / "extensions" / "torch-1" / name / "lock" for name in ("cpu_adam", "shm"))
    for made in (job / "owner", new, old):
        made.parent.mkdir(parents=True)
        made.write_text("")
    (job / "owner").write_text(f"{owner}\n")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    start(run).communicate(timeout=30)
    assert (job.exists(), new.exists(), old.exists()) == (stays, stays, False)


def _wait_until(holds: object) -> None:
    deadline = time.monotonic() + 20
    assert callable(holds)
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
