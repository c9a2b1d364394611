"""The owner of SVG: pieces of a picture, written by hand, since a login node should need no plotting library.

Colours are classes: a picture in a page takes those of the page, dark or light; one that is a file of its own brings
them along (`document`). Every text is escaped here. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.axis{stroke:#8c959f;fill:none}.grid{stroke:#d0d7de;fill:none}"
    ".paper{fill:#fff}.title{fill:#1f2328;font-weight:600}.c0{stroke:#1f6feb}.c1{stroke:#d1570c}.c2{stroke:#1a7f37}"
    ".c3{stroke:#8250df}.mark.c0{fill:#1f6feb}.mark.c1{fill:#d1570c}.mark.c2{fill:#1a7f37}.mark.c3{fill:#8250df}"
    ".best{stroke:#cf222e}.mark.best{fill:#cf222e}.line{fill:none}"
)
"""The light colours, for a picture that stands alone."""


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words at a place."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def path(places: Iterable[tuple[float, float]]) -> str:
    """The data of a line through places; empty where there are none."""
    found = list(places)
    return "M " + " L ".join(f"{x:.1f} {y:.1f}" for x, y in found) if found else ""


def line(
    places: Sequence[tuple[float, float]], kind: str, width: float = 1.5, title: str | None = None, more: str = ""
) -> str:
    """A line through places, a dot where there is one alone; whoever points at it reads the title."""
    drawn = path(places if len(places) > 1 else [*places, *places])
    told = f"<title>{escape(title)}</title>" if title is not None else ""
    attributes = f'class="line {kind}" stroke-width="{width:g}" stroke-linecap="round" stroke-linejoin="round"{more}'
    return f'<path d="{drawn}" {attributes}>{told}</path>' if drawn else ""


def circle(x: float, y: float, size: float, kind: str, title: str | None = None, more: str = "") -> str:
    """A mark at a place."""
    told = f"<title>{escape(title)}</title>" if title is not None else ""
    return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"{more}>{told}</circle>'


def rectangle(
    x: float, y: float, width: float, height: float, kind: str, title: str | None = None, more: str = ""
) -> str:
    """A bar or a field."""
    told = f"<title>{escape(title)}</title>" if title is not None else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect class="{kind}" {place}{more}>{told}</rect>'


def picture(body: Iterable[str], width: float, height: float, about: str) -> str:
    """A picture for a page, as wide as there is room; `about` says to those who do not see it what it shows."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
    return "\n".join([f'{head} aria-label="{escape(about)}">', *body, "</svg>"])


def document(body: Iterable[str], width: float, height: float, about: str) -> str:
    """A picture that is a file of its own, on white."""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} aria-label="{escape(about)}"><style>{STYLE}</style>'
    return "\n".join([head, '<rect class="paper" width="100%" height="100%"/>', *body, "</svg>\n"])
