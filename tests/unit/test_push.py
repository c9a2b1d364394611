"""`muster push`: what it refuses before it starts anything, what it sends, and what its exit status says."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import Script, encode_plan, read_plan
from conf.schema import RunConfig
from launcher.problems import MusterError
from launcher.send.push import MOST_FOLLOWED, push
from tests.dist.runs import write_plan
from tests.unit.runs import append, begin, end, metrics
from tests.wandb_server import WandbServer

ROOT = Path(__file__).resolve().parents[2]


def write_run(path: Path, script: Script | None = None) -> RunFolder:
    folder, plan = write_plan(path, RunConfig())
    folder.run_json.write_text(encode_plan(replace(plan, script=script)))
    folder.path.chmod(0o700)
    folder.muster_zip.parent.mkdir(mode=0o700)
    folder.muster_zip.write_bytes(b"")
    return folder


def test_a_program_of_one_s_own_has_a_history_of_its_own(tmp_path: Path) -> None:
    """A replay would write over what it has told W&B itself."""
    folder = write_run(tmp_path / "own", Script("train.py", ".", []))
    with pytest.raises(MusterError, match=r"a program of your own.*wandb sync"):
        push([folder], follow=False)


def test_a_machine_follows_only_so_many(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(number)) for number in range(MOST_FOLLOWED + 1)]
    with pytest.raises(MusterError, match="9 runs: at most 8"):
        push(folders, follow=True)


@contextmanager
def running(folder: RunFolder, attempt: int) -> Iterator[None]:
    """An attempt of a run on this machine: a process that names its folder."""
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()", str(folder.path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as agent:
        begin(folder, attempt, pid=agent.pid)
        yield


def write_program(folder: RunFolder, code: str) -> None:
    """What stands in the run's code, with which its push is started."""
    with zipfile.ZipFile(folder.muster_zip, "w") as code_zip:
        code_zip.writestr("__main__.py", code)


def test_a_run_that_is_tracked_online_has_one_writer(tmp_path: Path) -> None:
    """All that are said; what has ended, or went on offline, may be pushed."""
    online, again, offline, over = (write_run(tmp_path / name) for name in ("online", "again", "offline", "over"))
    for folder in (online, again, offline, over):
        write_program(folder, "")
        append(folder.events, {"event": "tracked", "attempt": 0, "url": "https://wandb.example/x"})
    begin(offline, 0)
    begin(over, 0)
    end(over, state=State.done)
    with running(online, 0), running(again, 0), running(offline, 1):
        with pytest.raises(
            MusterError, match=r"online-00000000 \(running\), again-00000000 \(running\): tracked online"
        ):
            push([online, again, offline, over], follow=False)
        assert push([offline, over], follow=False) == 0
    assert push([online], follow=True) == 0


@pytest.mark.parametrize("follow", [False, True])
def test_a_push_that_is_killed_is_no_success(follow: bool, tmp_path: Path) -> None:
    good, killed = write_run(tmp_path / "good"), write_run(tmp_path / "killed")
    write_program(good, "")
    write_program(killed, "import os; os.kill(os.getpid(), 9)")
    assert push([good], follow) == 0
    assert push([killed, good], follow) == 1


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with WandbServer() as one:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        yield one


def test_what_a_dead_attempt_reached_is_not_sent(server: WandbServer, tmp_path: Path) -> None:
    """Attempt 1 goes on from 4 and is at 5, where attempt 0 ended after 8; its end is not the run's."""
    folder = write_run(tmp_path / "run")
    append(folder.metrics, *(metrics(step, 1.0) for step in range(1, 9)))
    append(folder.system, *({"time": metrics(step, 1.0)["time"] + 0.5, "nodes/count": step} for step in (2, 8)))
    append(folder.metrics, metrics(5, 2.0, attempt=1, time=metrics(9, 1.0)["time"]))
    began = {"attempt": 1, "time": metrics(8, 1.0)["time"] + 0.7}
    append(folder.events, {"event": "attempt_started", **began}, {"event": "resumed", "step": 4, **began})
    end(folder, state=State.preempted, step=8, attempt=0)
    argv = [sys.executable, "-m", "train", "push", str(folder.path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout[:8]) == (0, "5 steps "), done.stderr
    run = server.run(read_plan(folder.run_json).wandb_id)
    losses = [(row["train/global_step"], row["train/loss"]) for row in run.history if "train/loss" in row]
    assert losses == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0)]
    assert [row["train/global_step"] for row in run.history if "nodes/count" in row] == [2]
    assert (run.summary["run/lost_steps"], run.summary.get("state")) == (4, None)
