"""Which events become messages, and what attempts add up to."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from conf.schema import AlertKind
from tests.unit.runs import append, metrics
from train.tracking.alerts import Herald, Sent
from train.tracking.follow import Chronicle
from train.tracking.story import Story


def event(name: str, attempt: int = 0, time: float = 1.0, **values: Any) -> dict[str, Any]:
    return {"time": time, "attempt": attempt, "event": name, **values}


@pytest.mark.parametrize(
    ("one", "kind", "level"),
    [
        (event("hang", reason="rank 3 on node2 did not come"), "hang", "ERROR"),
        (event("failure", cause="nan", message="the loss is not finite"), "non_finite", "ERROR"),
        (event("warning", about="non_finite", text="left out"), "non_finite", "WARN"),
        (event("warning", about="straggler", text="rank 1 is slow"), "straggler", "WARN"),
        (event("attempt_ended", state="time_limit", reason="the job's time is nearly up"), "time_limit", "INFO"),
        (event("attempt_ended", state="failed", reason="rank 0 on a: oom"), "failed", "ERROR"),
        (event("decision", state="failed", reason="no_progress: 3 attempts in a row"), "no_progress", "ERROR"),
        (event("attempt_started", attempt=1, hosts=["a", "b"]), "restart", "INFO"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_event_becomes_a_message(one: dict[str, Any], kind: str, level: str) -> None:
    alert = Herald().hear(one)
    assert alert is not None
    assert (alert.kind.value, alert.level) == (kind, level)
    assert Herald().hear(one) == alert
    assert alert.title("demo-1a2b3c4d") == f"demo-1a2b3c4d: {kind.replace('_', ' ')}"
    assert len(alert.title("d" * 200)) < 64


@pytest.mark.parametrize(
    "one",
    [
        event("attempt_started"),
        event("warning", text="an ordinary one"),
        event("attempt_ended", state="done", reason="all steps are done"),
        event("attempt_ended", state="preempted", reason="the scheduler wants the nodes"),
        event("failure", cause="oom", message="told by the attempt's end"),
        event("checkpoint", step=3),
    ],
    ids=lambda one: one["event"],
)
def test_other_events_are_no_news(one: dict[str, Any]) -> None:
    assert Herald().hear(one) is None


def test_a_failure_is_told_once_and_a_restart_says_what_was_before() -> None:
    herald = Herald()
    assert herald.hear(event("hang", reason="stands still")) is not None
    assert herald.hear(event("attempt_ended", state="failed", reason="hang: stands still")) is None
    restart = herald.hear(event("attempt_started", attempt=1, hosts=["a"]))
    assert restart is not None
    assert restart.text == "attempt 1 has started on a; before: failed: hang: stands still"


def test_what_was_sent_is_sent_by_nobody_again(tmp_path: Path) -> None:
    alerts = [Herald().hear(event("hang", attempt=number, reason="x")) for number in (0, 1)]
    first, second = alerts
    assert first is not None
    assert second is not None
    sent = Sent(tmp_path / "run" / "alerts.jsonl")
    (tmp_path / "run").mkdir()
    sent.add(first)
    again = Sent(tmp_path / "run" / "alerts.jsonl")
    assert first in again
    assert second not in again
    assert first.kind is AlertKind.hang


def test_the_story_of_three_attempts() -> None:
    """Sent at 0, waits 10 s; attempt 0 reaches step 4, attempt 1 goes on from 2, attempt 2 from 5."""
    story = Story([0.0])
    story.hear_event(event("attempt_started", time=10.0))
    for step in (1, 2, 3, 4):
        story.hear_metrics({"step": step, "attempt": 0, "time": 10.0 + 2 * step, "perf/step_time_s": 2.0})
    story.hear_event(event("decision", time=20.0))
    story.hear_event(event("attempt_started", attempt=1, time=25.0))
    story.hear_event(event("resumed", attempt=1, time=26.0, step=2))
    story.hear_metrics({"step": 5, "attempt": 1, "time": 35.0, "perf/step_time_s": 2.0})
    story.hear_event(event("attempt_ended", attempt=1, time=36.0))
    story.hear_event(event("decision", attempt=1, time=37.0))
    story.hear_event(event("attempt_started", attempt=2, time=40.0))
    story.hear_event(event("resumed", attempt=2, time=41.0, step=5))
    story.hear_metrics({"step": 10, "attempt": 2, "time": 50.0, "perf/step_time_s": 1.0, "eval/loss": 1.0})
    assert story.values() == {
        "run/attempt": 2,
        "run/lost_steps": 2,  # 3 and 4 were made again
        "run/queue_wait_s": 10.0 + 5.0 + 3.0,
        "run/goodput": (2 * 2.0 + 3 * 2.0 + 5 * 1.0) / (50.0 - 10.0),
    }
    assert story.totals(16) == {
        "train_runtime": 15.0,
        "train_steps_per_second": round(10 / 15, 3),
        "train_samples_per_second": round(160 / 15, 3),
    }


def trained(story: Story, attempt: int, lines: dict[int, float | None]) -> Story:
    """Step → seconds a step of its line; None for a line of an evaluation."""
    for step, took in lines.items():
        told = {"eval/loss": 1.0} if took is None else {"perf/step_time_s": took}
        story.hear_metrics({"step": step, "attempt": attempt, "time": float(step), **told})
    return story


@pytest.mark.parametrize("logging_steps", [1, 7, 100])
@pytest.mark.parametrize("eval_steps", [50, 120])
def test_evaluations_between_lines_take_no_time_from_the_steps(logging_steps: int, eval_steps: int) -> None:
    """1000 steps of a second each, however often they are logged and evaluated."""
    lines: dict[int, float | None] = dict.fromkeys(range(eval_steps, 1001, eval_steps))
    lines |= dict.fromkeys(range(logging_steps, 1001, logging_steps), 1.0)
    logged = 1000 // logging_steps * logging_steps
    totals = trained(Story(), 0, dict(sorted(lines.items()))).totals(1)
    assert totals["train_runtime"] == logged


def test_steps_that_are_made_again_are_timed_once() -> None:
    """Attempt 1 goes on from 60 and stops before attempt 0 had."""
    story = trained(Story(), 0, {40: 1.0, 60: 2.0, 70: None, 80: 2.0})
    assert story.totals(1)["train_runtime"] == 40 * 1.0 + 40 * 2.0
    story.hear_event(event("resumed", attempt=1, step=60))
    trained(story, 1, {70: 3.0})
    trained(story, 0, {90: 9.0})  # a late word of the dead attempt
    assert story.totals(1)["train_runtime"] == 40 * 1.0 + 20 * 2.0 + 10 * 3.0


@pytest.mark.parametrize(
    ("sent", "waited"),
    [
        ([], 0.0),  # on this machine nobody queues
        ([0.0], 10.0 + 900.0),  # requeued at its end
        ([0.0, 50.0], 10.0 + 900.0),  # a chain: the next job was sent while the first ran
        ([0.0, 950.0], 10.0 + 50.0),  # stopped on Friday, resumed on Monday
        ([0.0, 950.0, 2000.0], 10.0 + 50.0),  # the last one has not started
    ],
    ids=["local", "requeue", "chain", "resume", "later"],
)
def test_only_jobs_wait_in_a_queue(sent: list[float], waited: float) -> None:
    story = Story(sent)
    story.hear_event(event("attempt_started", time=10.0))
    story.hear_event(event("attempt_ended", time=99.0))
    story.hear_event(event("decision", time=100.0))
    story.hear_event(event("attempt_started", attempt=1, time=1000.0))
    assert story.values()["run/queue_wait_s"] == waited
    story.hear_event(event("attempt_started", attempt=2, time=3000.0))  # nobody said that attempt 1 had ended
    assert story.values()["run/queue_wait_s"] == waited


def test_a_long_history_is_heard_line_by_line(tmp_path: Path) -> None:
    """A later attempt takes in what was before it within rank 0: 2.3 kB a line, were they held at once."""
    folder, count = RunFolder(tmp_path), 20_000
    append(folder.events, *(event("checkpoint", time=metrics(step, 1.0)["time"], step=step) for step in (1, count)))
    append(folder.metrics, *(metrics(step, 1.0, **{"perf/step_time_s": 0.5}) for step in range(1, count + 1)))
    story, chronicle = Story(), Chronicle(folder)
    heard = []
    tracemalloc.start()
    try:
        for line in chronicle.read():
            if "event" in line:
                heard.append((line["step"], story.step))
            else:
                story.hear_metrics(line)
        assert tracemalloc.get_traced_memory()[1] < 100 * count
    finally:
        tracemalloc.stop()
    assert heard == [(1, 0), (count, count - 1)]  # in the order of time
    assert story.totals(1)["train_runtime"] == 0.5 * count
    append(folder.metrics, metrics(count + 1, 1.0))
    assert [line["step"] for line in chronicle.read()] == [count + 1]
    assert not list(chronicle.read())
