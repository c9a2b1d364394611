"""How a person sees a table of runs and a failure. `*_rows` and `*_lines` are pure; `print_*` and `Page` draw.

rich draws on a terminal; elsewhere the same words come out plain, without colour or wrapping.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from conf.record import Plan
from launcher.runs.cause import RootCause
from launcher.runs.read import last_text_lines
from launcher.show import units
from launcher.show.line import clean, clean_lines

Row = tuple[str, str]
STYLES = {
    "bold": "1",
    "label": "36",
    "dim": "2",
    "warning": "33",
    "good": "32",
    "bad": "31",
    "weights": "36",
    "gradients": "33",
    "optimizer": "35",
    "activations": "32",
    "buffers": "34",
    "other": "2",
}


def headline(plan: Plan) -> str:
    """A run in one line: `demo-1a2b3c4d · llama 1.2M parameters · ZeRO-3 · 2 ranks · runs/demo-1a2b3c4d`."""
    topology = plan.topology
    size = f" {units.count(plan.parameters)} parameters" if plan.parameters else ""
    what = [f"{plan.model_type}{size}", f"ZeRO-{plan.config.parallel.zero_stage}"]
    return " · ".join(
        [
            plan.run_id,
            *(what if plan.script is None else [plan.script.path]),
            f"{topology.world_size} rank{'s' if topology.world_size > 1 else ''}"
            + (f" on {topology.nodes} nodes" if topology.nodes > 1 else ""),
            plan.run_dir,
        ]
    )


def cause_lines(cause: RootCause, log_lines: int) -> list[str]:
    """The failing rank, its error and the end of its log."""
    who = f"rank {cause.rank}" if cause.rank >= 0 else "the agent"
    lines = [f"{who} on {cause.host} (node {cause.node}) failed first: {cause.cause.value}", f"  {cause.message}"]
    if cause.victims:
        lines.append(f"  it took down: {', '.join(f'rank {rank}' for rank in cause.victims if rank >= 0)}")
    if cause.traceback:
        lines += ["", *cause.traceback.rstrip().splitlines()]
    tail = [line for line in last_text_lines(cause.log, log_lines) if line.strip()]
    told = cause.traceback.strip().rpartition("\n")[2].strip()
    if tail and not (told and any(told in line for line in tail)):
        lines += ["", f"the end of its log, {cause.log}:", *(f"  {line}" for line in tail)]
    else:
        lines.append(f"log: {cause.log}")
    return [clean_lines(line) for line in lines]


def in_colour(out: TextIO) -> bool:
    """Whether colour is wanted: on a terminal, unless NO_COLOR is set; elsewhere where FORCE_COLOR is."""
    if os.environ.get("NO_COLOR"):
        return False
    return out.isatty() or bool(os.environ.get("FORCE_COLOR"))


class Page:
    """Titles with rows or lines below, coloured on a terminal, which nothing of what is printed can steer."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.coloured = in_colour(out)

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `STYLES`, where colour is seen."""
        shown = clean(text)
        return f"\x1b[{STYLES[style]}m{shown}\x1b[0m" if style and self.coloured else shown

    def title(self, title: str) -> None:
        """A bold line, after an empty one."""
        if title:
            print(f"\n{self.paint(title, 'bold')}", file=self.out)

    def rows(self, title: str, rows: Sequence[Row]) -> None:
        """Label and text in two columns."""
        if not rows:
            return
        self.title(title)
        width = max(len(label) for label, _ in rows)
        for label, text in rows:
            print(f"  {self.paint(f'{label:<{width}}', 'label')}  {clean_lines(text)}", file=self.out)

    def lines(self, title: str, lines: Sequence[str], style: str = "") -> None:
        """Lines of one style."""
        self.painted(title, [self.paint(line, style) for line in lines])

    def painted(self, title: str, lines: Sequence[str]) -> None:
        """Lines with parts that `paint` has painted."""
        if not lines:
            return
        self.title(title)
        for line in lines:
            print(f"  {line}".rstrip(), file=self.out)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None) -> None:
    """A table: by rich on a terminal, else columns padded with spaces."""
    out = out or sys.stdout
    if out.isatty():
        from rich.console import Console

        Console(file=out).print(rich_table(columns, rows))
        return
    shown = [columns, *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in shown) for index in range(len(columns))]
    for row in shown:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A rich table whose cells are plain text, without empty columns; only the last column is folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [place for place in range(len(columns)) if not rows or any(row[place] for row in rows)]
    for place in shown[:-1]:
        table.add_column(columns[place], overflow="ellipsis", no_wrap=True)
    table.add_column(columns[shown[-1]], overflow="fold", min_width=16)
    for row in rows:
        table.add_row(*(Text(clean(row[place])) for place in shown))
    return table
