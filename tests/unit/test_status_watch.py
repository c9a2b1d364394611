"""`muster status -w` as a person sees it, on a real terminal of 80 columns, on a dumb one, and in a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.layout import Attempt, RunFolder
from conf.outcome import State
from conf.schema import ClusterKind
from launcher.runs.reading import EVAL_LOSS, LOSS, Reading
from launcher.runs.rundir import list_runs
from launcher.runs.standing import stand
from launcher.runs.submissions import TRAIN, write_line
from launcher.sweep.record import Sweep, SweptPoint
from launcher.watch.one_run import Seen, run_page
from launcher.watch.table import run_lines, sweep_lines
from launcher.watch.watcher import Look, Watcher
from slurm.parse import Job
from tests.unit.runs import append, begin, end, make_run, metrics
from tests.unit.terminal import OnTerminal

MUSTER = (sys.executable, "-m", "muster")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[RunFolder, Attempt]]:
    """A run whose agent is a process of ours, with some steps made."""
    folder = make_run(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(folder.path)])
    attempt = begin(folder, pid=process.pid)
    attempt.rank_log(0, 0).write_text("loading\n\x1b[2Jstep 40 said the rank\n")
    append(folder.events, {"time": time.time(), "attempt": 0, "event": "phase", "phase": "train", "total": 100})
    append(folder.events, {"time": time.time(), "attempt": 0, "event": "warning", "text": "look at \x1b[31mthis"})
    append(folder.metrics, {"step": 20, "attempt": 0, "time": 1.0, "eval/loss": 3.25})
    speed = {"perf/tokens_per_second": 1234.5, "train/grad_norm": 0.5}
    append(folder.metrics, *(metrics(step, 5.0 - step / 10, **speed) for step in range(1, 41)))
    try:
        yield folder, attempt
    finally:
        process.kill()
        process.wait()


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return kept | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | more


def on_terminal(words: list[str], columns: int = 80, rows: int = 24, **more: str) -> OnTerminal:
    return OnTerminal([*MUSTER, *words], environment(**more), columns, rows)


def test_a_table_in_80_columns_that_follows_until_q(running: tuple[RunFolder, Attempt]) -> None:
    folder, _ = running
    root = str(folder.path.parent)
    make_run(folder.path.parent, "waiting")
    terminal = on_terminal(["status", "-w", "--run-root", root])
    try:
        window = terminal.until(lambda window: "40/100" in window.text)
        assert window.other
        row = next(line for line in window.lines if folder.path.name in line)
        for words in ("running", "1.0000", "1.23k", "1m 00s", "█"):
            assert words in row
        assert "1 running, 1 prepared" in window.lines[0]
        append(folder.metrics, metrics(41, 0.75))
        terminal.until(lambda window: "41/100" in window.text and "0.7500" in window.text)
        terminal.press(b"q")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert not window.other
    assert "41/100" in window.text, "the last page is left where the command was given"
    assert window.unknown == []
    assert window.styled


def test_one_run_with_curves_events_and_log(running: tuple[RunFolder, Attempt]) -> None:
    folder, attempt = running
    terminal = on_terminal(["status", "demo", "-w", "--run-root", str(folder.path.parent)])
    try:
        window = terminal.until(lambda window: "said the rank" in window.text)
        for words in ("attempt 0", "step 40/100", "ETA 1 min 0 s", "o evaluation 3.2500", "look at this", "│", "⠈"):
            assert words in window.text
        terminal.resize(60, 16)
        window = terminal.until(lambda window: "step 40/100" in window.text)
        assert window.text.count("\n") < 16
        end(folder, state=State.done, reason="all steps are done", step=100)
        attempt.job.write_text(json.dumps({"job": "local:1", "pid": 0, "time": time.time(), "host": "n1"}))
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "done" in window.text


def test_without_colour_and_on_a_terminal_that_has_no_blocks(running: tuple[RunFolder, Attempt]) -> None:
    root = str(running[0].path.parent)
    terminal = on_terminal(["status", "demo", "-w", "--run-root", root], NO_COLOR="1", TERM="vt100")
    try:
        window = terminal.until(lambda window: "said the rank" in window.text)
        assert "|*" in window.text.replace(" ", "")
        terminal.press(b"\x03")
        assert terminal.end() in (0, 130)
    finally:
        terminal.close()
    assert not window.styled
    assert not window.other


def test_a_terminal_of_another_encoding(running: tuple[RunFolder, Attempt]) -> None:
    root = str(running[0].path.parent)
    terminal = on_terminal(["status", "demo", "-w", "--run-root", root], PYTHONIOENCODING="iso-8859-1")
    try:
        terminal.until(lambda window: "said the rank" in window.text)
        terminal.press(b"q")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_a_dumb_terminal_gets_lines(running: tuple[RunFolder, Attempt]) -> None:
    folder, _ = running
    terminal = on_terminal(["status", "-w", "--run-root", str(folder.path.parent)], TERM="dumb")
    try:
        window = terminal.until(lambda window: "step 40/100" in window.text)
        end(folder, state=State.failed, reason="it broke", step=40)
        folder.attempt(0).job.write_text(json.dumps({"job": "local:1", "pid": 0, "host": "n1"}))
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert not window.was_other
    assert "\x1b" not in terminal.raw
    assert "it broke" in window.text


def test_a_pipe_gets_a_line_for_each_change(running: tuple[RunFolder, Attempt]) -> None:
    folder, _ = running
    words = [*MUSTER, "status", "-w", "--run-root", str(folder.path.parent)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        append(folder.metrics, metrics(60, 0.5))
        end(folder, state=State.done, reason="all steps are done", step=60)
        folder.attempt(0).job.write_text(json.dumps({"job": "local:1", "pid": 0, "host": "n1"}))
        rest = process.stdout.read()
    assert "running  step 40/100  loss 1.0000" in first
    assert rest.splitlines()[-1].split()[2:] == ["done", "step", "60/100", "loss", "0.5000"]
    told = subprocess.run([*words, "--json"], env=environment(), capture_output=True, text=True, check=True)
    (line,) = (json.loads(line) for line in told.stdout.splitlines())
    assert (line["state"], line["step"], line["nodes"]) == ("done", 60, "n1")


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (
            Job("7", reason="Resources", start="2100-01-02T03:04:05"),
            "waits for nodes to become free (Resources) · would start 02 Jan 03:04, in ",
        ),
        (Job("7", reason="Priority", start="N/A"), "jobs of higher priority are first (Priority)"),
        (Job("7", reason="JobHeldUser", start="2001-01-02T03:04:05"), "would start soon"),
    ],
    ids=["an estimate", "none", "overdue"],
)
def test_why_it_waits_and_when_it_would_start(tmp_path: Path, job: Job, words: str) -> None:
    folder = make_run(tmp_path, kind=ClusterKind.slurm)
    write_line(folder, "sent", TRAIN, job_id="7")
    reading = Reading(folder)
    standing = stand(folder, {"7": job}, reading)
    look = Look(time.time(), [standing])
    table = ["".join(text for text, _ in each) for each in run_lines(look, lambda _: None, 80, False, False)]
    assert table[2].strip().startswith(words) or words in table[2]
    seen = Seen(look.now, standing, reading.view(None), reading.want_curves(), [], "", [])
    page = "\n".join("".join(text for text, _ in each) for each in run_page(seen, 80, 24, False))
    assert words[:30] in page
    assert "what helps: " in page


def test_runs_of_a_sweep_that_have_ended_are_in_its_line(tmp_path: Path) -> None:
    points = []
    for number, state in enumerate((State.done, State.failed, None)):
        folder = make_run(tmp_path, f"p{number}", seed=number)
        begin(folder, pid=2**22 + 1)
        if state is not None:
            end(folder, state=state, step=9, metrics={"eval/loss": 0.25}, reason="because")
        points.append(SweptPoint([f"train.seed={number}"], folder.path.name, str(folder.path), str(number)))
    sweep = Sweep("seeds-01234567", "run", [], "/", points)
    look = Watcher(lambda: list_runs(tmp_path), lambda: [sweep]).look()
    named = ["".join(text for text, _ in each) for each in run_lines(look, lambda _: None, 120, False, True)]
    assert sum("because" in row for row in named) == 1
    assert run_lines(look, lambda _: None, 120, False, False) == []
    shown = "\n".join("".join(text for text, _ in each) for each in sweep_lines(look, 120))
    assert "2 failed, 1 done" in shown
    assert "best so far: eval/loss 0.25 at train.seed=0" in shown


def test_a_long_run_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path)
    begin(folder)
    with folder.metrics.open("w") as file:
        for step in range(1, 300_001):
            file.write(
                f'{{"step":{step},"attempt":0,"time":{step},"train/loss":{1 + 300_000 / step},"x/y":"{step:0300}"}}\n'
            )
    read = Bytes(monkeypatch)
    reading = Reading(folder)
    assert stand(folder, {}, reading).step == 300_000
    points = reading.want_curves().points[LOSS]
    assert points[0][0] == 1
    assert points[-1] == (300_000, 2.0)
    steps = [step for step, _ in points]
    assert all(any(low <= step < low + 30_000 for step in steps) for low in range(0, 300_000, 30_000))
    assert read.count < 4 << 20 < folder.metrics.stat().st_size // 20
    read.count = 0
    append(folder.metrics, metrics(300_001, 1.5))
    assert stand(folder, {}, reading).loss == 1.5
    assert read.count < 100_000


def test_every_evaluation_of_a_long_run_is_seen_and_a_later_attempt_s_counts(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with folder.metrics.open("w") as file, folder.events.open("w") as events:
        for attempt, steps in enumerate((range(1, 6001), range(4001, 8001))):
            for step in steps:
                line = {"step": step, "attempt": attempt, "time": step, "train/loss": 1.0, "x/y": "0" * 500}
                file.write(json.dumps(line) + "\n")
                if step % 100 == 0:
                    found = {"step": step, "attempt": attempt, "time": step}
                    file.write(json.dumps(found | {"eval/loss": step + attempt / 2}) + "\n")
                    told = {"event": "evaluation", "split": "validation", "loss": step + attempt / 2}
                    events.write(json.dumps(found | told) + "\n")
                    events.write(json.dumps(found | {"event": "evaluation", "split": "test", "loss": 9e9}) + "\n")
    reading = Reading(folder)
    points = reading.want_curves(samples=40).points[EVAL_LOSS]
    assert points == [(step, step + (step > 4000) / 2) for step in range(100, 8001, 100)]
    append(folder.metrics, {"step": 8100, "attempt": 1, "time": 1.0, "eval/loss": 3.0})
    reading.look()
    assert points[-1] == (8100, 3.0)


class Bytes:
    """Counts what is read of files opened by their paths."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = Path.open

        def opened(path: Path, *arguments: Any, **named: Any) -> Any:
            file = plain(path, *arguments, **named)
            if path.name == "metrics.jsonl":
                read = file.read
                counted = self

                class Counted:
                    def __getattr__(self, name: str) -> Any:
                        return getattr(file, name)

                    def __enter__(self) -> Counted:
                        return self

                    def __exit__(self, *_: object) -> None:
                        file.close()

                    def read(self, *sizes: int) -> Any:
                        content = read(*sizes)
                        counted.count += len(content)
                        return content

                return Counted()
            return file

        monkeypatch.setattr(Path, "open", opened)
