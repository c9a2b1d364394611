"""How plans, runs, failures and endings look: plain text, complete, without colour where nobody sees it."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.estimate import Moment, Need, Term
from conf.layout import RunFolder
from conf.outcome import Cause, Failure, State, read_outcome
from conf.record import read_plan
from launcher.runs.cause import find_root_cause
from launcher.send.local import LocalEnd
from launcher.show.ending import answer_lines, place_lines, report_end
from launcher.show.evaluations import evaluation_lines
from launcher.show.line import cut_line, line
from launcher.show.memory_page import BAR_WIDTH, GLYPHS, bar, device_lines, device_title
from launcher.show.plan_page import deepspeed_lines, plan_rows
from launcher.show.show import Page, cause_lines, headline, print_table
from tests.unit.runs import append, begin, end, make_run, write_failure


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path)


def test_plan_rows_and_headline(folder: RunFolder) -> None:
    plan = read_plan(folder.run_json)
    rows = dict(plan_rows(plan))
    assert rows["folder"] == plan.run_dir
    assert rows["ranks"] == "2 = 1 node × 2 · cpu · 1 thread each · start by fork"
    assert rows["steps"] == "100 (train.max_steps)"
    assert rows["batch"].startswith("8 documents ≈ 2 ranks × ")
    assert headline(plan).startswith(f"{plan.run_id} · llama ")
    assert headline(plan).endswith(str(folder.path))
    assert any(line == "  zero_optimization.stage = 3" for line in deepspeed_lines(plan))


def _need(likely: int, capacity: int | None) -> Need:
    terms = [Term("weights", likely // 2, 0, 0, "half", "weights"), Term("moments", likely // 2, 0, 0, "", "optimizer")]
    return Need([Moment("step", terms)], capacity, "80 GiB of a card, cluster.gres")


@pytest.mark.parametrize(
    ("likely", "capacity", "widths", "end"),
    [(40, 80, [15, 15], "|"), (80, 80, [30, 30], "|"), (160, 80, [30, 30], " over"), (40, None, [30, 30], "")],
    ids=["half", "full", "over", "unknown"],
)
def test_bar_of_the_memory_is_to_scale(likely: int, capacity: int | None, widths: list[int], end: str) -> None:
    need = _need(likely << 30, None if capacity is None else capacity << 30)
    drawn = bar(need.peak, need.capacity, Page(io.StringIO()))
    glyphs = [GLYPHS["weights"] * widths[0], GLYPHS["optimizer"] * widths[1]]
    assert drawn.startswith("".join(glyphs))
    assert drawn.endswith(end)
    assert len(drawn.rstrip("|")) <= BAR_WIDTH + len(" over")


def test_memory_is_shown_within_80_columns() -> None:
    lines = device_lines(_need(40 << 30, 80 << 30), Page(io.StringIO()))
    assert all(len(line) <= 76 for line in lines)
    assert any("weights" in line and "20.0 GiB" in line and "half" in line for line in lines)
    assert device_title(_need(160 << 30, 80 << 30)).endswith("does not fit")


@pytest.mark.parametrize(
    ("names", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    ids=["piped", "forced", "refused"],
)
def test_colour_only_where_it_is_wanted(names: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    Page(out).rows("title", [("label", "text")])
    assert ("\x1b[" in out.getvalue()) is coloured
    assert "title" in out.getvalue()


def test_table_without_a_terminal_is_plain_and_aligned() -> None:
    out = io.StringIO()
    print_table(("run", "state"), [("a-long-name", "done"), ("b", "failed")], out)
    assert out.getvalue() == "run          state\na-long-name  done\nb            failed\n"


def test_cause_names_rank_error_log_and_victims(folder: RunFolder) -> None:
    attempt = begin(folder)
    common = {"node": 0, "host": "n1"}
    write_failure(
        attempt,
        Failure(rank=1, time=1.0, cause=Cause.user_code, message="ValueError: bad", traceback="T\nV: 1", **common),
    )
    write_failure(attempt, Failure(rank=0, time=2.0, cause=Cause.lost_peer, message="connection closed", **common))
    attempt.rank_log(0, 1).write_text("step 1\nlast words of rank 1\n")
    cause = find_root_cause(attempt)
    assert cause is not None
    text = "\n".join(cause_lines(cause, 5))
    for words in ("rank 1 on n1 (node 0) failed first: user_code", "ValueError: bad", "took down: rank 0", "T\nV: 1"):
        assert words in text
    assert "last words of rank 1" in text
    assert str(attempt.rank_log(0, 1)) in text
    attempt.rank_log(0, 1).write_text("T\nV: 1\n")
    assert "\n".join(cause_lines(cause, 5)).count("V: 1") == 1


def test_a_good_end_shows_before_and_after_answers_places_and_what_next(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = begin(folder)
    append(
        folder.events,
        {"event": "evaluation", "attempt": 0, "step": 0, "loss": 5.0, "perplexity": 148.4},
        {"event": "evaluation", "attempt": 0, "step": 50, "loss": 2.0, "perplexity": 7.389},
        {"event": "evaluation", "attempt": 0, "step": 100, "loss": 0.5, "perplexity": 1.6487},
    )
    append(
        folder.samples,
        {"prompt": "2 + 2 =", "answer": "4", "expected": "4"},
        {"prompt": "line\nbreak", "answer": "x" * 500, "expected": "y"},
    )
    folder.export.mkdir()
    (folder.export / "model.safetensors").write_bytes(b"x" * 2048)
    end(folder, state=State.done, reason="all steps", step=100)
    plan = read_plan(folder.run_json)
    assert evaluation_lines(folder) == [
        "evaluation",
        "              validation, step 0 → 100",
        "  loss        5 → 0.5",
        "  perplexity  148.4 → 1.6487",
    ]
    answers = answer_lines(folder)
    assert answers[1:3] == ["  > 2 + 2 =", "    4"]
    assert answers[3] == "  > line break"
    assert answers[5] == "    (expected: y)"
    assert max(map(len, answers)) < 200
    places = "\n".join(place_lines(folder, plan))
    assert f"{folder.export} (2.0 KiB)" in places
    assert f"muster resume {folder.path} train.max_steps=200" in places
    assert report_end(folder, plan, LocalEnd(0, attempt, read_outcome(folder.outcome), [])) == 0
    assert "148.4 → 1.6487" in capsys.readouterr().out


def test_other_ends_say_what_was_saved_and_how_to_go_on(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    plan, attempt = read_plan(folder.run_json), begin(folder)
    end(folder, state=State.stopped, reason="stopped", step=7, checkpoint="checkpoints/step-00000007")
    assert report_end(folder, plan, LocalEnd(0, attempt, read_outcome(folder.outcome), [])) == 1
    assert f"stopped; saved at step 7\ngo on:  muster resume {folder.path}" in capsys.readouterr().out
    assert report_end(folder, plan, LocalEnd(3, None, None, ["body.sh: no space"])) == 1
    said = capsys.readouterr().err
    assert "status 3" in said
    assert "body.sh: no space" in said


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("\x1b\x07[]0;31m\t\r\n"), max_size=60))
def test_no_text_steers_the_terminal(text: str) -> None:
    """Titles, colours and the clipboard are the terminal's; run folders of others are read as well."""
    out = io.StringIO()
    page = Page(out)
    page.rows(text, [("label", text)])
    page.lines(text, [text])
    page.painted("", [page.paint(text, "bad")])
    print_table(["name"], [[text]], out)
    print("".join(piece for piece, _ in cut_line(line(text), 40)), file=out)
    shown = out.getvalue().replace("\n", "")
    assert [letter for letter in shown if unicodedata.category(letter)[0] == "C"] == []
