"""What the data of a run is like: counted over the prepared documents, in words, and what deserves a look.

Nothing is read again: lengths, labels and hashes lie beside the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from conf.data_report import RULES, DataReport, Lengths, SourceReport, SplitReport
from conf.schema import DataConfig, ProblemType
from train.data.cleaning import contradictions, first_of_each, leaks, row_identity
from train.data.documents import INPUT_HASH, LABELS, Documents, IntArray
from train.data.prepared import Labels, Part, Split
from train.data.selection import Selection

BINS = 24
"""Bars of a histogram, at most."""

NOTABLE_SHARE = 0.01
"""Share of documents from which what happened to them is a finding."""

NOTABLE_SHORTFALL = 0.1
"""Share of the documents asked for whose absence from a split is a finding."""

IMBALANCE = 10
"""How many times as many documents the most frequent label may have as the rarest before that is a finding."""

SHOWN_LABELS = 3


def report_on(
    parts: Mapping[str, list[Part]], selection: Selection, data: DataConfig, labels: Labels | None
) -> DataReport:
    """Count what there is in every split and every source."""
    opened = {name: split.open(fingerprints=True) for name, split in selection.splits.items()}
    inputs = {name: documents.columns[INPUT_HASH] for name, documents in opened.items()}
    splits = {}
    for name, documents in opened.items():
        leaked = seen = 0
        if name != "train" and "train" in inputs:
            leaked = int(leaks(inputs["train"], [inputs[name]]).sum())
            seen = int(leaks(inputs[name], [inputs["train"]]).sum())
        splits[name] = _split_report(selection.splits[name], documents, leaked, seen, labels)
    sources = [_source_report(name, part) for name, found in parts.items() for part in found]
    report = DataReport(splits, sources, data.max_length, selection.taken)
    report.findings.extend([*_held_out_findings(report, selection), *_findings(report, data, labels)])
    return report


def _source_report(split: str, part: Part) -> SourceReport:
    return SourceReport(
        split=split,
        name=part.name,
        file=part.source,
        rows=part.rows,
        documents=part.documents,
        broken=part.bad_rows,
        empty=part.empty,
        dropped=part.dropped,
        cut=part.truncated,
        without_targets=part.without_targets,
    )


def _split_report(split: Split, documents: Documents, leaked: int, seen: int, labels: Labels | None) -> SplitReport:
    names = [part.name for part in split.parts]
    several = len(names) > 1
    return SplitReport(
        documents=len(documents),
        tokens=int(documents.lengths.sum(dtype=np.int64)),
        targets=int(documents.targets.sum(dtype=np.int64)),
        lengths=lengths_of(documents.lengths),
        duplicates=int((~first_of_each(row_identity(documents))).sum()),
        contradictions=contradictions(documents),
        leaks=leaked,
        seen=seen,
        labels=_label_counts(documents, labels),
        sources=dict(zip(names, documents.sizes, strict=True)) if several else {},
        epoch=dict(zip(names, documents.mix.shares, strict=True)) if several and split.weights else {},
    )


def lengths_of(lengths: IntArray) -> Lengths:
    """Figures and a histogram of lengths (at least one)."""
    p50, p90, p99 = (int(value) for value in np.percentile(lengths, [50, 90, 99], method="higher"))
    width = _bin_width(int(lengths.max()))
    counts = np.bincount(lengths // width)
    edges = [width * number for number in range(len(counts) + 1)]
    mean = round(float(lengths.mean()), 1)
    return Lengths(int(lengths.min()), mean, p50, p90, p99, int(lengths.max()), edges, counts.tolist())


def _bin_width(longest: int) -> int:
    """1, 2 or 5 times a power of ten, so that the longest document is in one of `BINS` bars."""
    width, steps = 1, (2, 2.5, 2)
    for number in range(40):
        if longest // width < BINS:
            break
        width = int(width * steps[number % 3])
    return width


def _label_counts(documents: Documents, labels: Labels | None) -> dict[str, int]:
    if labels is None or labels.problem_type is ProblemType.regression:
        return {}
    column = documents.columns[LABELS]
    if labels.problem_type is ProblemType.multi_label_classification:
        counts = column.sum(axis=0).astype(np.int64)
    else:
        counts = np.bincount(column.reshape(-1).astype(np.int64), minlength=len(labels.names))
    return dict(zip(labels.names, counts.tolist(), strict=True))


def _findings(report: DataReport, data: DataConfig, labels: Labels | None) -> Iterator[str]:
    """What may make results worse, or better than they are."""
    yield from _source_findings(report, data)
    train = report.splits.get("train")
    if train is None:
        return
    for name, split in report.splits.items():
        if split.seen:
            yield (
                f"{split.seen} of {split.documents} {name} documents have their input in the training data too "
                f"({split.leaks} documents there): their scores say little; data.clean.drop_leaks=true leaves those out"
            )
    if train.duplicates >= NOTABLE_SHARE * train.documents:
        yield (
            f"{train.duplicates} of {train.documents} training documents were there before (exact duplicates): "
            "data.clean.deduplicate=exact keeps the first of each"
        )
    if labels is not None and train.contradictions:
        yield f"{train.contradictions} training documents have the text of another one with another label"
    yield from _label_findings(report)
    for name, count in train.epoch.items():
        if count >= 2 * train.sources[name]:
            yield (
                f"source {name}: its {train.sources[name]} documents come {count / train.sources[name]:.1f} times an "
                "epoch by data.weights"
            )


def _held_out_findings(report: DataReport, selection: Selection) -> Iterator[str]:
    """Splits that came out smaller than asked for, since groups are whole."""
    for name, wanted in selection.wanted.items():
        found = report.splits[name].documents
        if found < (1 - NOTABLE_SHORTFALL) * wanted:
            yield f"{name} has {found} of the {wanted} documents asked for: data.split_by=grouped keeps groups whole"


def _source_findings(report: DataReport, data: DataConfig) -> Iterator[str]:
    for source in report.sources:
        lost = {
            f"cut to {data.max_length} tokens": (source.cut, "a larger data.max_length keeps them whole"),
            "dropped as too long": (source.dropped, "a larger data.max_length keeps them"),
            "left without anything to learn": (source.without_targets, "see data.max_length and the columns"),
        }
        for what, (count, hint) in lost.items():
            if count >= NOTABLE_SHARE * source.rows and count:
                yield f"{source.file}: {count} of {source.rows} rows were {what}; {hint}"


def _label_findings(report: DataReport) -> Iterator[str]:
    counts = report.splits["train"].labels
    if not counts:
        return
    lacking = [name for name, count in counts.items() if count == 0]
    if lacking:
        yield f"labels without a training document: {_shown(lacking)}"
    there = {name: count for name, count in counts.items() if count}
    rarest, most = min(there, key=lambda name: there[name]), max(there, key=lambda name: there[name])
    if there[most] > IMBALANCE * there[rarest]:
        yield (
            f"labels are out of balance: {rarest!r} has {there[rarest]} training documents, {most!r} {there[most]}; "
            "task.balance_classes=true weighs them"
        )
    for name, split in report.splits.items():
        absent = [label for label, count in split.labels.items() if count == 0 and counts[label]]
        if name != "train" and absent:
            yield f"{len(absent)} of {len(counts)} labels have no {name} document: {_shown(absent)}"


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_LABELS]) + (f" and {len(names) - SHOWN_LABELS} more" if names[SHOWN_LABELS:] else "")


def report_lines(report: DataReport) -> list[str]:
    """The report for a log: a line a split, then what cleaning took."""
    lines = []
    for name, split in report.splits.items():
        lengths = split.lengths
        words = f"lengths {lengths.shortest} to {lengths.longest}, median {lengths.p50}, 99 % up to {lengths.p99}"
        counts = {
            "exact duplicates": split.duplicates,
            "with the input of another document but another answer": split.contradictions,
            "with their input in the training data": split.seen,
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        lines.append(f"{name}: {words}{'; ' if said else ''}{said}")
        mixed = [f"{source} {count} documents" for source, count in split.sources.items()]
        if split.epoch:
            mixed = [f"{source} {split.epoch[source]} of {count}" for source, count in split.sources.items()]
        if mixed:
            lines.append(f"{name}: {'an epoch has ' if split.epoch else ''}{', '.join(mixed)}")
    if report.taken:
        taken = ", ".join(f"{count} {RULES[rule]}" for rule, count in report.taken.items())
        lines.append(f"train: cleaned away: {taken}")
    return lines
