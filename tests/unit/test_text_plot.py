"""What is drawn in a terminal: curves, tables of as many columns as there are, texts of others made harmless."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.runs.series import Series
from launcher.show.line import Column, Row, clean, cut, cut_middle, line, table, width_of
from launcher.show.text_plot import BLOCKS, plot, sparkline

POINTS = st.lists(st.tuples(st.integers(0, 10_000), st.floats(allow_nan=True, width=32)), max_size=60)


def falling(count: int) -> list[tuple[int, float]]:
    return [(step, float(count - step)) for step in range(count)]


def test_a_sparkline_falls_as_its_curve_does() -> None:
    drawn = sparkline(falling(100), 8)
    assert drawn == "".join(reversed(BLOCKS))
    assert sparkline([(0, 1.0), (1, math.nan), (2, 3.0)], 9) == "▁ █"
    assert sparkline(falling(100), 8, plain=True).isascii()
    assert sparkline([], 8) == sparkline([(0, math.inf)], 8) == ""


def test_a_sparkline_is_even_over_steps_however_densely_they_were_kept() -> None:
    points = [(step, 0.0) for step in range(0, 500, 100)] + [(step, 1.0) for step in range(500, 1000)]
    assert sparkline(points, 10) == "▁" * 5 + "█" * 5


@settings(deadline=None)
@given(POINTS, st.integers(20, 100), st.integers(3, 20), st.booleans())
def test_a_plot_keeps_its_size_whatever_it_shows(
    points: list[tuple[int, float]], width: int, height: int, plain: bool
) -> None:
    points = sorted(points)
    lines = plot(points, width, height, marks=points[:2], x_end=20_000, plain=plain)
    assert len(lines) == height
    assert all(len(each) <= max(width, 30) for each in lines)
    assert not plain or all(each.isascii() for each in lines)


def test_a_plot_is_where_its_values_are() -> None:
    lines = plot([(step, value + 50) for step, value in falling(100)], 60, 9)
    assert lines[0].startswith(" 150 │")
    assert lines[0].split("│")[1].strip()[-1] != " "
    first, last = (line.split("│")[1] for line in (lines[0], lines[7]))
    assert len(first.rstrip()) < 15
    assert len(last) - len(last.lstrip()) > 30
    assert lines[8].split() == ["0", "99"]
    assert plot([], 60, 5)[0] == "(nothing yet)"


def test_values_of_different_size_are_drawn_by_their_powers() -> None:
    lines = plot([(step, 10.0 ** (-step / 10)) for step in range(41)], 60, 9)
    assert [lines[row].split()[0] for row in (0, 7)] == ["1", "0.0001"]
    assert lines[4].split()[0] == "0.00518"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("a\x07b\x00c\u202ed", "a·b·c·d"),
        ("\x1b]52;c;c2VjcmV0\x1b\\end", "end"),
        ("tab\tend", "tab end"),
    ],
)
def test_what_others_printed_does_not_steer_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_texts_are_cut_by_the_columns_they_take() -> None:
    assert cut("short", 5) == "short"
    assert cut("longer", 5) == "long…"
    assert width_of("日本語") == 6
    assert width_of(cut("日本語日本語", 7)) <= 7
    assert cut_middle("a-very-long-name-of-a-run-12345678", 20) == "a-very-lon…-12345678"


@settings(deadline=None)
@given(st.integers(20, 160), st.lists(st.text("abcdef日-", max_size=40), min_size=1, max_size=4))
def test_a_table_fits_and_keeps_what_matters(width: int, names: list[str]) -> None:
    columns = (Column("run"), Column("state"), Column("job", keep=1), Column("ETA", right=True, keep=2))
    rows = [
        Row({"run": "r" + name, "state": "running", "job": "slurm:12345678", "ETA": "3m 05s"}, {}) for name in names
    ]
    lines, left_out = table(columns, rows, width)
    assert all(width_of("".join(text for text, _ in each)) <= max(width, 8 + 2 + 7) for each in lines)
    assert "job" in left_out or "ETA" not in left_out
    assert all("running" in "".join(text for text, _ in each) for each in lines[1:])


def test_a_note_lies_below_its_row_and_empty_columns_are_left_out() -> None:
    rows = [Row({"run": "a", "state": "queued", "job": ""}, {}, "waits for nodes"), Row({"run": "b", "state": ""}, {})]
    lines, _ = table((Column("run"), Column("state"), Column("job")), rows, 80)
    assert ["".join(text for text, _ in each).rstrip() for each in lines] == [
        "run  state",
        "a    queued",
        "  waits for nodes",
        "b",
    ]
    assert line("a", ("b", "bold")) == (("a", ""), ("b", "bold"))


def test_a_long_curve_is_kept_small_and_even() -> None:
    series = Series(["train/loss"], most=100)
    for step in range(100_000):
        series.take({"step": step, "train/loss": float(step)})
    points = series.points["train/loss"]
    assert len(points) <= 100
    assert points[0][0] < 100_000 / 50
    assert points[-1] == (99_999, 99_999.0)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(points[:-1])]
    assert max(gaps) <= 3 * min(gaps)


def test_steps_made_again_replace_those_of_the_attempt_before() -> None:
    series = Series(["train/loss"])
    for step, loss in [(1, 3.0), (2, 2.0), (3, "nan"), (2, 1.5), (3, 1.0)]:
        series.take({"step": step, "train/loss": loss})
    assert series.points["train/loss"] == [(1, 3.0), (2, 1.5), (3, 1.0)]
