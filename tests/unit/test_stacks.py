"""What processes are doing, as it is kept: of one that runs, one that is stopped, one that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.node.stacks import ask_all, stacks_file, wake

PROGRAM = """
import sys, time
from pathlib import Path
from train.node.stacks import write_stacks_on_request
def somewhere():
    print("ready", flush=True)
    time.sleep(600)
write_stacks_on_request(Path(sys.argv[1]))
somewhere()
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", PROGRAM, str(stacks_file(tmp_path, 0))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        started.kill()


def test_a_process_that_runs(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(2):  # asked again, it tells the newest alone
        seen = ask_all(tmp_path, {0: process.pid})[0]
        assert seen.state == "S"
        assert seen.stacks.count("most recent call first") == 1
        assert "in somewhere" in seen.main_thread
        assert "wchan: " in seen.text


def test_a_process_that_is_stopped(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = ask_all(tmp_path, {0: process.pid})[0]
    assert (seen.state, seen.is_stopped) == ("T", True)
    assert "most recent call first" not in seen.stacks
    if os.geteuid() == 0 and Path(sys.executable).with_name("py-spy").exists():  # others may not look into a process
        assert "somewhere (<string>:" in seen.stacks
    woken = wake(tmp_path, 0, process.pid, seen)
    assert "in somewhere" in woken.main_thread


def test_a_process_that_is_gone(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    seen = ask_all(tmp_path, {0: process.pid})[0]
    assert (seen.state, seen.stacks, seen.is_stopped) == ("", "", False)
    assert seen.text == "state: gone\n"
