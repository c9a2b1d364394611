"""The owner of HTML: a page that needs nothing beside it, and its pieces. Every value is escaped here.

The page's own policy forbids scripts and anything from elsewhere, so that not even a value that slipped through could
act. Dark or light as the reader's system is; on a phone the cards stand below each other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"


@cache
def style() -> str:
    """The page's style sheet."""
    return files("launcher.report").joinpath("style.css").read_text()


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{style()}</style>"
    )
    start = ["<!doctype html>", f'<html lang="en"><head>{head}</head><body><main>']
    return "\n".join([*start, *(part for part in parts if part), "</main></body></html>\n"])


def section(title: str, *parts: str) -> str:
    """A part of the page with a heading to link to; nothing where it has no content."""
    there = [part for part in parts if part]
    if not there:
        return ""
    return "\n".join([f'<section id="{anchor(title)}"><h2>{escape(title)}</h2>', *there, "</section>"])


def navigation(sections: Iterable[str]) -> str:
    """Links to the sections that are there."""
    titles = [found[1] for each in sections if (found := re.search(r"<h2>(.*?)</h2>", each))]
    links = "".join(f'<a href="#{anchor(title)}">{title}</a>' for title in titles)
    return f'<nav aria-label="parts of this page">{links}</nav>'


def anchor(title: str) -> str:
    """The name of a section in links."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain words."""
    return f"<p{_class(kind)}>{escape(words)}</p>" if words else ""


def plain(words: str) -> str:
    """Words within other pieces."""
    return escape(words)


def card(*parts: str) -> str:
    """A field of its own."""
    there = "\n".join(part for part in parts if part)
    return f'<div class="card">{there}</div>' if there else ""


def cards(parts: Iterable[str]) -> str:
    """Fields beside each other, as many as there is room for."""
    there = "\n".join(card(part) for part in parts if part)
    return f'<div class="cards">{there}</div>' if there else ""


def figures(rows: Iterable[tuple[str, str]]) -> str:
    """Numbers that matter, each with what it is."""
    there = "".join(
        f'<div class="card figure"><b>{escape(value)}</b><span>{escape(label)}</span></div>' for value, label in rows
    )
    return f'<div class="figures">{there}</div>'


def badge(word: str, kind: str) -> str:
    """A state in a word."""
    return f'<span class="badge {escape(kind)}">{escape(word)}</span>'


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Label and text, below each other."""
    there = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in rows)
    return f"<dl>{there}</dl>" if there else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], best: str = "") -> str:
    """A table; cells that are numbers stand on the right, the row whose first cell is `best` stands out."""
    lines = [list(row) for row in rows]
    if not lines:
        return ""
    right = [all(is_number(row[place]) for row in lines) for place in range(len(columns))]
    kinds = ["number" if each else "" for each in right]
    head = "".join(f"<th{_class(kind)}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    body = [
        f"<tr{_class('best' if best and row[0] == best else '')}>"
        + "".join(f"<td{_class(kind)}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in lines
    ]
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def bars(rows: Iterable[tuple[str, str, float | None]]) -> str:
    """A label, words and a bar as long as its share of one."""
    lines = [
        f"<tr><td>{code(label)}</td><td>{escape(words)}</td><td>"
        + ("" if share is None else f'<span class="bar" style="width: {share * 20:.2f}rem"></span>')
        + "</td></tr>"
        for label, words, share in rows
    ]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>' if lines else ""


def is_number(cell: str) -> bool:
    """Whether a cell is a number, or empty."""
    return not cell or re.fullmatch(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|-|nan|-?inf", cell) is not None


def more(summary: str, content: str) -> str:
    """What is read on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


def preformatted(words: str) -> str:
    """Text as it is written: a command, a configuration, a log."""
    return f"<pre>{escape(words)}</pre>" if words else ""


def code(words: str) -> str:
    """A command or a path in a line."""
    return f"<code>{escape(words)}</code>"


def written(now: float) -> str:
    """When and by what the page was written."""
    return paragraph(f"Written by muster report, {time.strftime('%d %b %Y %H:%M', time.localtime(now))}.", "soft")


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
