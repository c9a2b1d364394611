"""The report of a run: what it says, that nothing in it can act, and what a real browser makes of it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conf.layout import RunFolder
from conf.outcome import AgentReport, Cause, Failure, State
from launcher import cli
from launcher.figures.plot import Band, Curve, Plot, plot_picture
from tests.unit.runs import append, begin, end, make_run, metrics, write_failure, write_report

ODD = "<script>alert(1)</script> & \"q\" 'a' </style><img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags that were opened, the text, attributes; whether all is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def fill(folder: RunFolder, factor: float = 1.0) -> None:
    """Two attempts, the second after a fault, with curves, evaluations, samples."""
    now = time.time() - 600
    for number in (0, 1):
        attempt = begin(folder, number)
        record = json.loads(attempt.job.read_text()) | {"time": now + 200 * number}
        attempt.job.write_text(json.dumps(record))
    attempt = folder.attempt(0)
    failure = Failure(1, 0, "n1", now + 100, Cause.user_code, f"ValueError: {ODD}", "T\nValueError")
    write_failure(attempt, failure)
    write_report(attempt, AgentReport(0, "n1", now, now + 100, "fork"))
    memory = {"mem/host_peak_gib": 1.5, "perf/tokens_per_second": 900.0, "train/grad_norm": 0.5}
    append(folder.metrics, *(metrics(step, factor * 9 / step, **memory) for step in range(1, 31)))
    append(folder.metrics, {"step": 20, "attempt": 0, "time": 2.0, "eval/loss": 0.75, "eval/perplexity": 2.1})
    append(folder.metrics, *(metrics(step, factor * 9 / step, attempt=1, **memory) for step in range(21, 101)))
    append(
        folder.events,
        {"time": now + 90, "attempt": 0, "event": "checkpoint", "step": 20, "seconds": 1.0, "bytes": 2048},
        {"time": now + 95, "attempt": 0, "event": "warning", "text": ODD, "step": 25},
        {"time": now + 100, "attempt": 0, "event": "decision", "decision": "requeue", "state": "failed", "reason": ODD},
        {"time": now + 80, "attempt": 0, "event": "evaluation", "split": "validation", "step": 20, "loss": 0.75},
        {
            "time": now + 399,
            "attempt": 1,
            "event": "time_measured",
            "predicted": 0.5,
            "low": 0.4,
            "high": 0.6,
            "measured": 0.75,
        },
        {"time": now + 400, "attempt": 1, "event": "attempt_ended", "state": "done", "reason": "all steps are done"},
    )
    looks = ({"nodes/cpu_percent/min": 5.0, "nodes/cpu_percent/max": 10.0 * each} for each in range(1, 5))
    append(folder.system, *({"time": now + 60 * each, **look} for each, look in enumerate(looks)))
    append(folder.samples, {"prompt": ODD, "expected": "4", "answer": ODD, "before": "gibberish"})
    (folder.path / "figures").mkdir(exist_ok=True)
    folder.figure("lengths").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{ODD}</svg>")
    end(folder, state=State.done, reason="all steps are done", step=100, attempt=1, metrics={"eval/loss": 0.5})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = make_run(tmp_path)
    fill(made)
    return made


def report(folder: RunFolder, *words: str) -> str:
    assert cli.main(["report", str(folder.path), "--run-root", str(folder.path.parent), *words]) == 0
    return folder.report.read_text()


def test_a_report_tells_the_whole_run_and_stands_alone(folder: RunFolder) -> None:
    text = report(folder)
    page = Page(text)
    assert page.open == []
    for heading in (
        "Curves",
        "Attempts",
        "Evaluation",
        "Samples",
        "Memory and time",
        "Configuration",
        "Reproduce",
        "Events",
    ):
        assert f"<h2>{heading}</h2>" in text
    pictures = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    for words in (
        "loss: training 9 at step 1 to 0.09 at 100",
        "tokens a second: tokens_per_second 900",
        "gradient norm",
        "2 attempts over",
        "processors busy, %: least 5 at minute 0 to 5 at 3; most 10 at minute 0 to 40 at 3",
    ):
        assert any(words in picture for picture in pictures), pictures
    assert f"muster reproduce {folder.path.name}" in page.words
    assert "optim.learning_rate" in page.words
    assert "step 100  ·" in page.words, "values under the pointer"
    assert "gibberish" in page.words
    assert "150% of the plan, outside its band" in page.words
    assert folder.report.stat().st_mode & 0o777 == folder.run_json.stat().st_mode & 0o777


def test_nothing_of_a_run_can_act_in_the_page(folder: RunFolder) -> None:
    text = report(folder)
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    sources = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(source.startswith(("#", "data:image/svg+xml;base64,")) for source in sources)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.words.count("<script>alert(1)</script>") >= 3, "what was said is there, as text"
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_against_another_run_its_curves_and_what_differs_are_there(folder: RunFolder, tmp_path: Path) -> None:
    other = make_run(tmp_path, "other", seed=7)
    fill(other, factor=2.0)
    page = Page(report(folder, "--against", "other"))
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert any("other 18 at step 1" in label and "training 9 at step 1" in label for label in labels)
    assert "train.seed" in page.words
    assert "train/loss, last" in page.words


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    attempt = begin(folder)
    failure = Failure(1, 0, "n1", time.time(), Cause.user_code, f"ValueError: {ODD}", "T\nValueError")
    write_failure(attempt, failure)
    end(folder, state=State.failed, reason="rank 1: ValueError", step=0, failure=failure)
    page = Page(report(folder))
    assert "What went wrong" in page.words
    assert "user_code" in page.words
    assert f"ValueError: {ODD}" in page.words


def test_a_run_that_never_started_has_a_report_too(tmp_path: Path) -> None:
    page = Page(report(make_run(tmp_path)))
    assert "prepared" in page.words
    assert "<h2>Curves" not in page.words


def test_the_report_goes_where_it_is_wanted_for_the_person_alone(folder: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert cli.main(["report", str(folder.path), "-o", str(target)]) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert not folder.report.exists()


def test_a_plot_shows_band_levels_and_gaps() -> None:
    curve = Curve("used", [(step, float("nan") if step == 3 else 10.0 + step) for step in range(10)])
    plot = Plot("memory", [curve], band=Band("planned", 9.0, 15.0), levels=[("there is 24", 24.0)], from_zero=True)
    drawn = plot_picture(plot)
    assert 'class="band"' in drawn
    assert "there is 24" in drawn
    assert "NaN" not in drawn
    assert "nan" not in drawn
    assert "no values" in plot_picture(Plot("empty", [Curve("x", [(1, float("inf"))])]))


@pytest.fixture
def browser(tmp_path: Path) -> list[str]:
    """Chromium without a window."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'browser'}"]
    flags += ["--enable-logging=stderr", "--no-first-run", "--disable-dev-shm-usage"]
    return [found, *flags, *(["--no-sandbox"] if os.getuid() == 0 else [])]


def test_a_browser_sees_the_curves(folder: RunFolder, tmp_path: Path, browser: list[str]) -> None:
    from PIL import Image

    report(folder)
    picture = tmp_path / "page.png"
    words = [*browser, "--window-size=1280,1400", f"--screenshot={picture}", folder.report.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    with Image.open(io.BytesIO(picture.read_bytes())) as image:
        colours = {colour: amount for amount, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert image.size == (1280, 1400)
    assert colours.get((31, 111, 235), 0) > 500, "the blue of the curves"
    assert colours.get((209, 87, 12), 0) > 20, "the orange of the evaluations"
