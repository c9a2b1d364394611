"""The page of `muster data`: what the documents of a run are like. `*_rows` and `*_lines` are pure."""

from __future__ import annotations

import sys
from typing import TextIO

from conf.data_report import RULES, DataReport, SourceReport, SplitReport
from launcher.show.show import Page, print_table

SPLIT_COLUMNS = (
    "split",
    "documents",
    "tokens",
    "targets",
    "shortest",
    "median",
    "90 %",
    "99 %",
    "longest",
    "duplicates",
    "contradictions",
    "seen in training",
)
SOURCE_COLUMNS = ("source", "rows", "documents", "broken", "empty", "dropped", "cut", "nothing to learn")
BAR_WIDTH = 50
SHOWN_LABELS = 20


def split_row(name: str, split: SplitReport) -> tuple[str, ...]:
    """A split as a row of the table."""
    lengths = split.lengths
    spread = (lengths.shortest, lengths.p50, lengths.p90, lengths.p99, lengths.longest)
    figures = (split.documents, split.tokens, split.targets, *spread)
    found = (split.duplicates, split.contradictions, split.seen if name != "train" else 0)
    return name, *(f"{figure:,}" for figure in figures), *(f"{count:,}" if count else "-" for count in found)


def source_row(source: SourceReport) -> tuple[str, ...]:
    """What became of the rows of a source."""
    lost = (source.broken, source.empty, source.dropped, source.cut, source.without_targets)
    name = f"{source.name}: {source.file}" if source.name else source.file
    return name, f"{source.rows:,}", f"{source.documents:,}", *(f"{count:,}" if count else "-" for count in lost)


def length_lines(split: SplitReport) -> list[str]:
    """Lengths as bars, the longest bar the most frequent lengths."""
    lengths = split.lengths
    most, width = max(lengths.counts), len(str(lengths.edges[-1]))
    lines = []
    for start, end, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
        eighths = round(8 * BAR_WIDTH * count / most)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        drawn = f"{bar or '▏'} {count:,}" if count else ""
        lines.append(f"{start:>{width}} to {end - 1:>{width}}  {drawn}".rstrip())
    return lines


def label_lines(report: DataReport) -> list[str]:
    """Documents of each label by split, those most frequent in the first split first."""
    counts = next(iter(report.splits.values())).labels
    names = sorted(counts, key=lambda name: (-counts[name], name))
    width = max((len(name) for name in names[:SHOWN_LABELS]), default=0)
    lines = [
        f"{name:<{width}}  "
        + "  ".join(f"{split} {part.labels.get(name, 0):,}" for split, part in report.splits.items() if part.labels)
        for name in names[:SHOWN_LABELS]
    ]
    more = len(names) - SHOWN_LABELS
    return [*lines, *([f"and {more} more labels, down to {counts[names[-1]]:,} documents"] if more > 0 else [])]


def mix_rows(report: DataReport) -> list[tuple[str, str]]:
    """What each of several sources gives to an epoch."""
    rows = []
    for split in report.splits.values():
        for name, count in split.sources.items() if split.epoch else ():
            rows.append(
                (name, f"{split.epoch[name]:,} of the {split.documents:,} documents of an epoch, from {count:,}")
            )
    return rows


def print_data(title: str, report: DataReport, out: TextIO | None = None) -> None:
    """The report for a person."""
    out = out or sys.stdout
    page = Page(out)
    page.title(title)
    print_table(SPLIT_COLUMNS, [split_row(name, split) for name, split in report.splits.items()], out)
    print(file=out)
    print_table(SOURCE_COLUMNS, [source_row(source) for source in report.sources], out)
    page.rows("An epoch", mix_rows(report))
    page.rows("Cleaned away", [(f"{count:,}", RULES[rule]) for rule, count in report.taken.items()])
    for name, split in report.splits.items():
        page.lines(f"{name}: documents by length in tokens", length_lines(split))
    page.lines("Labels", label_lines(report))
    page.lines("Worth a look", [f"! {finding}" for finding in report.findings], style="warning")
