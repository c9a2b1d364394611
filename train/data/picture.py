"""A picture of how long the documents of each split are: SVG, written by hand.

A plotting library takes longer to import than small data takes to prepare, and every run makes this picture.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from conf.data_report import DataReport, SplitReport
from conf.files import write_atomically

WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 150, 70, 34, 62
BAR, LINE = "#4c78a8", "#d62728"


def write_picture(path: Path, report: DataReport) -> None:
    """The picture in a file, whose folder is made where it is not there."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lengths_picture(report).encode())


def lengths_picture(report: DataReport) -> str:
    """One histogram a split, one below the other, on one scale of lengths; a line marks `data.max_length`."""
    longest = max(split.lengths.edges[-1] for split in report.splits.values())
    panels = [
        _panel(name, split, longest, report.max_length, TOP + row * (HEIGHT + GAP))
        for row, (name, split) in enumerate(report.splits.items())
    ]
    whole = TOP + len(panels) * (HEIGHT + GAP)
    size = f'width="{WIDTH + LEFT + 20}" height="{whole}" viewBox="0 0 {WIDTH + LEFT + 20} {whole}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>\n"])


def _panel(name: str, split: SplitReport, longest: int, limit: int, top: int) -> str:
    lengths, floor = split.lengths, top + HEIGHT
    most = max(lengths.counts)
    parts = [_text(LEFT, top - 10, f"{name}: {split.documents:,} documents by length in tokens", "start")]
    for start, end, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
        left, width = LEFT + WIDTH * start / longest, WIDTH * (end - start) / longest
        height = HEIGHT * count / most
        title = f"<title>{start} to {end - 1} tokens: {count:,} documents</title>"
        place = f'x="{left:.1f}" y="{floor - height:.1f}" width="{max(0.5, width - 1):.1f}" height="{height:.1f}"'
        parts.append(f'<rect {place} fill="{BAR}">{title}</rect>')
    parts.append(f'<path d="M {LEFT} {top} V {floor} H {LEFT + WIDTH}" stroke="black" fill="none"/>')
    parts += [_text(LEFT - 6, top + 10, f"{most:,}", "end"), _text(LEFT - 6, floor, "0", "end")]
    for step in range(5):
        parts.append(_text(LEFT + WIDTH * step / 4, floor + 16, f"{round(longest * step / 4):,}", "middle"))
    if limit <= longest:
        at = f"{LEFT + WIDTH * limit / longest:.1f}"
        parts.append(f'<path d="M {at} {top} V {floor}" stroke="{LINE}" stroke-dasharray="4 3"/>')
    return "\n".join(parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
