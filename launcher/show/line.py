"""Lines of a page that is drawn again and again: pieces of text with styles, cut to the width of a terminal. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Piece = tuple[str, str]
"""A text and a style of `launcher.show.show.STYLES`, or no style."""

Line = tuple[Piece, ...]
GAP = 2
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def line(*pieces: Piece | str) -> Line:
    """A line of pieces; words alone have no style."""
    return tuple((piece, "") if isinstance(piece, str) else piece for piece in pieces)


def clean(text: str) -> str:
    """A text without escape sequences and control characters: what others printed must not steer this terminal."""
    if text.isprintable():
        return text
    kept = _ESCAPES.sub("", text).expandtabs(4)
    return "".join(letter if unicodedata.category(letter)[0] != "C" else "·" for letter in kept)


def clean_lines(text: str) -> str:
    """The same of a text of several lines."""
    return "\n".join(map(clean, text.split("\n")))


def width_of(text: str) -> int:
    """Columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def cut(text: str, width: int) -> str:
    """At most `width` columns of a text, with `…` where something is left out."""
    if width_of(text) <= width:
        return text
    kept, room = [], max(0, width - 1)
    for letter in text:
        room -= _columns(letter)
        if room < 0:
            break
        kept.append(letter)
    return "".join(kept) + "…" if width > 0 else ""


def cut_middle(text: str, width: int) -> str:
    """At most `width` columns of a name: its begin and its end, which tell it from others."""
    if width_of(text) <= width:
        return text
    tail = text[-min(9, width // 2) :]
    while tail and width_of(tail) > width // 2:
        tail = tail[1:]
    return cut(text, width - width_of(tail)) + tail


def cut_line(pieces: Line, width: int) -> Line:
    """A line of at most `width` columns."""
    kept: list[Piece] = []
    for text, style in pieces:
        whole = clean(text)
        part = cut(whole, width)
        kept.append((part, style))
        width -= width_of(part)
        if part != whole or width <= 0:
            break
    return tuple(kept)


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


@dataclass(frozen=True)
class Column:
    """A column of a table. Of columns that do not fit, those with the smallest `keep` go first; None stays."""

    title: str
    right: bool = False
    keep: int | None = None


@dataclass(frozen=True)
class Row:
    """Cells by the titles of their columns, styles of some of them, and a note for the line below."""

    cells: dict[str, str]
    styles: dict[str, str]
    note: str = ""


def table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> tuple[list[Line], set[str]]:
    """The table in `width` columns, its heading first, and the titles of the columns that did not fit.

    Columns without a value in any row are no part of it. The first column is shortened where nothing else helps.
    """
    shown = [column for column in columns if any(row.cells.get(column.title) for row in rows)]
    widths = {column.title: _width(column, rows) for column in shown}
    left_out: set[str] = set()
    while _total(widths) > width and (weakest := _weakest(shown)) is not None:
        shown.remove(weakest)
        left_out.add(weakest.title)
        del widths[weakest.title]
    if shown:
        first = shown[0].title
        widths[first] = min(widths[first], max(8, widths[first] + width - _total(widths)))
    lines = [_line(shown, widths, {}, {column.title: "bold" for column in shown})]
    for row in rows:
        lines.append(_line(shown, widths, row.cells, row.styles))
        if row.note:
            lines.append(cut_line(line((f"  {row.note}", "dim")), width))
    return lines, left_out


def _width(column: Column, rows: Iterable[Row]) -> int:
    return max(width_of(column.title), *(width_of(row.cells.get(column.title, "")) for row in rows))


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * max(0, len(widths) - 1)


def _weakest(columns: Sequence[Column]) -> Column | None:
    loose = [(column.keep, place) for place, column in enumerate(columns) if column.keep is not None]
    return columns[min(loose)[1]] if loose else None


def _line(columns: Sequence[Column], widths: dict[str, int], cells: dict[str, str], styles: dict[str, str]) -> Line:
    pieces: list[Piece] = []
    for place, column in enumerate(columns):
        room = widths[column.title]
        text = cells.get(column.title, "") if cells else column.title
        text = cut_middle(text, room) if place == 0 else text
        space = " " * (room - width_of(text))
        last = place == len(columns) - 1
        text = space + text if column.right else text if last else text + space
        pieces += [(text, styles.get(column.title, "")), ("" if last else " " * GAP, "")]
    return tuple(pieces)
