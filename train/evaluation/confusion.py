"""A picture of which labels are taken for which: SVG, written by hand as that of the data is. Pure.

Rows are the labels that are right, columns those that were said; a cell is as dark as its share of the row. Whoever
points at a cell reads its labels and numbers; few labels have the numbers written into their cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

SHOWN = 100
"""Labels in a picture; of more, those with most mistakes are shown."""

WRITTEN = 20
"""Labels up to which numbers stand in the cells."""

RIGHT, WRONG = "#2a6f97", "#c1121f"
LETTER = 0.56
"""Width of a letter of a name, in font sizes."""


def confusion_picture(counts: npt.NDArray[np.int64], names: Sequence[str], title: str) -> str:
    """The picture.

    Args:
        counts: documents, (labels that are right, labels that were said).
    """
    chosen = _chosen(counts)
    if len(chosen) < len(names):
        title += f": the {len(chosen)} of {len(names)} labels with most mistakes"
    side = 34 if len(chosen) <= WRITTEN else max(9, min(24, 900 // len(chosen)))
    font = min(13, max(7, side - 2))
    left = round(max(len(names[place]) for place in chosen) * font * LETTER) + 24
    top = left + 34
    body = [
        _text(left, 18, title, "start", 14),
        _text(left, 34, "down: right label, across: what was said", "start", 11),
    ]
    for row, right in enumerate(chosen):
        body.append(_text(left - 5, top + row * side + side / 2 + font / 3, names[right], "end", font))
        x, y = left + row * side + side / 2 + font / 3, top - 5
        body.append(_text(x, y, names[right], "start", font, f' transform="rotate(-90 {x:.1f} {y:.1f})"'))
        whole = int(counts[right].sum())
        for column, said in enumerate(chosen):
            number = int(counts[right, said])
            if number:
                place = (left + column * side, top + row * side)
                words = f"{names[right]} taken for {names[said]}: {number} of {whole}"
                body.append(_cell(place, side, number, number / whole, right == said, words, len(chosen) <= WRITTEN))
    extent = len(chosen) * side
    body.append(f'<rect x="{left}" y="{top}" width="{extent}" height="{extent}" fill="none" stroke="#888"/>')
    width, height = max(left + extent + 20, left + 8 * len(title), left + 330), top + extent + 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [f'{head} font-family="sans-serif">', '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>\n"]
    )


def _chosen(counts: npt.NDArray[np.int64]) -> list[int]:
    """The labels to show, in the order of the model's outputs."""
    if len(counts) <= SHOWN:
        return list(range(len(counts)))
    mistakes = counts.sum(1) + counts.sum(0) - 2 * counts.diagonal()
    return sorted(np.argsort(-mistakes, kind="stable")[:SHOWN].tolist())


def _cell(place: tuple[int, int], side: int, number: int, share: float, right: bool, words: str, written: bool) -> str:
    x, y = place
    colour, opacity = RIGHT if right else WRONG, 0.15 + 0.85 * share
    cell = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{colour}" fill-opacity="{opacity:.2f}">'
    cell += f"<title>{escape(words)}</title></rect>"
    if not written:
        return cell
    ink = "white" if opacity > 0.6 else "black"
    return cell + _text(x + side / 2, y + side / 2 + 4, f"{number}", "middle", 11, f' fill="{ink}"')


def _text(x: float, y: float, words: str, anchor: str, size: int, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
