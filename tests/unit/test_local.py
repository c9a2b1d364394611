"""Ctrl-C, a second Ctrl-C, a lost terminal: what they do to a run in the foreground. Real processes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import State, read_outcome
from launcher.send.local import find_agent
from tests.unit.runs import make_run

ROOT = Path(__file__).parent.parent.parent

CALLER = """
import sys
from pathlib import Path
from conf.layout import RunFolder
from launcher.send.local import run_local
end = run_local(RunFolder(Path(sys.argv[1])), ["bash", "-c", sys.argv[2], "job", sys.argv[1]], 10)
print("end", end.exit_status, end.attempt and end.attempt.number, end.outcome and end.outcome.state.value, end.words)
"""

OBEDIENT = """
mkdir -p "$1/attempts/0/logs"
echo '{"job": "local:'$$'", "pid": '$$', "host": "h", "time": 1}' >"$1/attempts/0/job.json"
echo '{"event": "warning", "text": "up", "attempt": 0, "time": 1}' >>"$1/events.jsonl"
until [ -e "$1/STOP" ]; do sleep 0.05; done
echo '{"state": "stopped", "reason": "'$(cat "$1/STOP")'", "step": 3, "attempt": 0, "time": 2}' >"$1/outcome.json"
"""

STUBBORN = """
mkdir -p "$1/attempts/0/logs"
trap 'echo ended >"$1/ended"; exit 9' TERM
echo '{"event": "warning", "text": "up", "attempt": 0, "time": 1}' >>"$1/events.jsonl"
while true; do sleep 0.05; done
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)


def start(folder: RunFolder, script: str) -> subprocess.Popen[str]:
    """A terminal's command that runs the script as a run's job; returns once it is up."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", CALLER, str(folder.path), script]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "warning: up\n"
    return process


def test_first_interrupt_writes_stop_and_waits_for_the_end(folder: RunFolder) -> None:
    process = start(folder, OBEDIENT)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert "stopping: the ranks save and end" in said
    assert "end 0 0 stopped []" in said
    assert folder.stop.read_text() == "stopped\n"


def test_second_interrupt_ends_the_group_at_once(folder: RunFolder) -> None:
    process = start(folder, STUBBORN)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert "end 9 0 None" in said
    assert (folder.path / "ended").exists()
    assert folder.stop.read_text() == "cancelled\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=["a lost terminal", "muster run | tee log"])
def test_without_a_reader_a_signal_stops_the_run_by_one_word(folder: RunFolder, number: int) -> None:
    """Ctrl-C ends the reader of a pipe too, which is no second word."""
    process = start(folder, OBEDIENT)
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert folder.stop.read_text() == "stopped\n"
    outcome = read_outcome(folder.outcome)
    assert outcome is not None
    assert outcome.state is State.stopped


def test_a_pipe_that_nobody_reads_stops_the_run(folder: RunFolder) -> None:
    """`muster run | head`: there is nobody left to see it run."""
    process = start(folder, OBEDIENT)
    assert process.stdout is not None
    process.stdout.close()
    with folder.events.open("a") as events:
        events.write('{"event": "warning", "text": "and on", "attempt": 0, "time": 2}\n')
    assert process.wait(timeout=60) == 0
    assert folder.stop.read_text() == "stopped\n"


def test_a_run_lives_by_whatever_way_its_folder_is_reached(folder: RunFolder, tmp_path: Path) -> None:
    process = start(folder, OBEDIENT)
    link = tmp_path / "link"
    link.symlink_to(folder.path)
    agents = {find_agent(seen.attempt(0), "h") for seen in (folder, RunFolder(link))}
    assert len(agents) == 1
    assert None not in agents
    folder.stop.write_text("stopped\n")
    process.communicate(timeout=60)
    assert find_agent(folder.attempt(0), "h") is None


def test_a_script_that_never_makes_an_attempt_is_quoted(folder: RunFolder) -> None:
    argv = [sys.executable, "-c", CALLER, str(folder.path), "echo no space left; exit 7"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert "end 7 None None ['no space left']" in done.stdout, done.stderr
