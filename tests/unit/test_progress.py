"""The live line: what it says in each phase, at what pace, and that it follows only what is new."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from conf.layout import RunFolder
from launcher.show import units
from launcher.show.progress import Progress, View, describe_event
from tests.unit.runs import append, metrics


def phase(name: str, **amounts: Any) -> dict[str, Any]:
    return {"time": 1.0, "attempt": 0, "event": "phase", "phase": name, **amounts}


LINES = {
    "nothing yet": ([], [], "starting"),
    "prepare": (
        [phase("prepare", done=120, total=400, unit="tokenising /data/train.jsonl")],
        [],
        "preparing data: tokenising train.jsonl, 30%",
    ),
    "prepare what counts nothing": (
        [phase("prepare", done=0, total=0, unit="drawing random weights")],
        [],
        "preparing data: drawing random weights",
    ),
    "start": ([{"time": 1.0, "event": "attempt_started", "world_size": 2}], [], "starting the ranks"),
    "load": ([phase("load")], [], "loading model"),
    "load a part": ([phase("load"), phase("load", text="weights")], [], "loading model: weights"),
    "train before its first step": ([phase("train", total=50)], [], "training"),
    "train": (
        [phase("train", total=50)],
        [metrics(9, 2.5), metrics(10, 2.25, **{"perf/tokens_per_second": 12345.0, "perf/mfu": 0.415})],
        "step 10/50  loss 2.2500  lr 0.001  12.3k tokens/s  MFU 41.5%  ETA 40 s",
    ),
    "evaluate": (
        [phase("train", total=50), phase("evaluate", done=1, total=4)],
        [metrics(10, 2.25)],
        "evaluating  step 10/50  loss 2.2500  lr 0.001",
    ),
    "loss that is no number": ([phase("train")], [metrics(3, "nan")], "step 3/60  loss nan  lr 0.001"),  # type: ignore[arg-type]
    "export": ([phase("export", done=3, total=9, unit="tensors")], [metrics(50, 1.0)], "exporting 3/9 tensors"),
}


@pytest.mark.parametrize(("events", "lines", "text"), LINES.values(), ids=LINES)
def test_text(events: list[dict[str, Any]], lines: list[dict[str, Any]], text: str) -> None:
    view = View(total_steps=60)
    for event in events:
        view.take_event(event)
    for line in lines:
        view.take_metrics(line)
    assert view.text() == text


def test_eta_starts_again_after_a_resume_and_ignores_evaluations() -> None:
    view = View(total_steps=100)
    for step in (50, 51, 52):
        view.take_metrics(metrics(step, 1.0, seconds=2.0))
    assert view.eta_s() == pytest.approx(96.0)
    view.take_metrics({"step": 52, "attempt": 0, "time": 1.0, "eval/loss": 1.0})
    assert view.eta_s() == pytest.approx(96.0)
    view.take_metrics(metrics(41, 1.0, attempt=1, seconds=2.0))
    assert view.eta_s() is None
    assert (view.step, View().eta_s()) == (41, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            {"event": "evaluation", "step": 5, "loss": 1.5, "perplexity": 4.4817},
            "evaluation at step 5: loss 1.5, perplexity 4.4817",
        ),
        (
            {"event": "evaluation", "split": "test", "step": 5, "loss": 1.5, "accuracy": 0.75, "f1_micro": 0.1},
            "test at step 5: loss 1.5, accuracy 0.75",
        ),
        (
            {"event": "checkpoint", "step": 5, "seconds": 1.25, "bytes": 3 << 20},
            "checkpoint of step 5: 3.0 MiB in 1.2 s",
        ),
        (
            {"event": "exported", "path": "/r/export", "verified": True, "max_abs_diff": 0.0},
            "exported to /r/export, verified",
        ),
        ({"event": "exported", "path": "/r/export", "verified": False}, "exported to /r/export, NOT verified"),
        ({"event": "warning", "text": "slow"}, "warning: slow"),
        ({"event": "unheard of"}, ""),
    ],
)
def test_events_in_words(line: dict[str, Any], words: str) -> None:
    assert describe_event(line) == words


def test_plain_output_follows_only_what_is_new(tmp_path: Path) -> None:
    folder, out = RunFolder(tmp_path), io.StringIO()
    append(folder.metrics, metrics(4, 9.0))
    append(folder.events, phase("prepare"), {"event": "warning", "text": "old"})
    with Progress(folder, 20, out) as progress:
        assert progress.view.step == 4
        append(folder.events, phase("load"), phase("train", total=20), {"event": "warning", "text": "new"})
        append(folder.metrics, metrics(5, 2.0))
        progress.update()
        append(folder.metrics, metrics(6, 1.5), metrics(7, 1.25))
    said = out.getvalue()
    assert "old" not in said
    assert "9.0" not in said
    assert said.index("loading model") < said.index("warning: new") < said.index("step 5/20") < said.index("step 7/20")
    assert "step 6/20" not in said
    assert "\x1b" not in said


def test_a_phase_that_counts_nothing_says_how_long_it_goes_on() -> None:
    view = View()
    view.take_event({**phase("load", text="weights"), "time": 100.0})
    assert view.lasting(103.0) == ""
    assert view.lasting(142.0) == ", for 42 s"
    view.take_event({**phase("load", text="weights"), "time": 130.0})
    assert view.lasting(142.0) == ", for 42 s", "the same part began with its first line"
    view.take_event({**phase("load", text="DeepSpeed's engine"), "time": 140.0})
    assert view.lasting(146.0) == ", for 6 s"
    view.take_event({**phase("convert", done=1, total=9, unit="parts"), "time": 150.0})
    assert view.lasting(190.0) == "", "what counts shows by itself that it goes on"


def test_plain_output_does_not_fall_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from launcher.show import progress as module

    monkeypatch.setattr(module, "SILENT_S", 0.0)
    monkeypatch.setattr(module, "NOTED_S", 0.0)
    folder, out = RunFolder(tmp_path), io.StringIO()
    with Progress(folder, 20, out) as progress:
        append(folder.events, phase("load", text="weights"))
        progress.update()
        progress.update()
    assert "loading model: weights, for " in out.getvalue()


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    folder, out = RunFolder(tmp_path), Terminal()
    with Progress(folder, 20, out) as progress:
        append(folder.events, phase("train", total=20), {"event": "warning", "text": "[red]as it is[/red]"})
        append(folder.metrics, metrics(20, 1.25))
        progress.update()
    assert "step 20/20" in out.getvalue()
    assert "warning: [red]as it is[/red]" in out.getvalue()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (units.duration(59.6), "1 min 0 s"),
        (units.duration(3661), "1 h 1 min"),
        (units.duration(90000), "1 d 1 h"),
        (units.duration(-1), "0 s"),
        (units.count(812), "812"),
        (units.count(1_443_456), "1.44M"),
        (units.count(8.03e9), "8.03B"),
        (units.size(812), "812 B"),
        (units.size(5 * 2**40), "5.0 TiB"),
    ],
)
def test_units(said: str, expected: str) -> None:
    assert said == expected
