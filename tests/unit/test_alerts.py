"""Which events become messages, and what attempts add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.schema import AlertKind
from train.tracking.alerts import Herald, Sent
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
    story = Story(sent=0.0)
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
