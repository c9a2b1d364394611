"""What shows why an attempt ended: lines of its logs, of the kernel, of Slurm, with where each stands. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conf.cause import WAITED_IN_VAIN
from conf.failure_texts import telling_lines
from conf.layout import Attempt, RunFolder
from conf.outcome import AgentReport, Cause, read_records
from launcher.runs.cause import RootCause
from launcher.runs.read import last_text_lines, read_lines
from launcher.why import stood_still
from slurm.words import Word, words_of

SCANNED = 400
"""Lines at the end of a log that are looked through."""
TOLD = 4
LOG_LINES = 8
TRACEBACK_LINES = 14
WARNINGS = 3
BEGUN = re.compile(r"attempt (\d+) of /")
"""What the job script says into Slurm's own output before it goes on in the attempt's job.log."""
WAITING = WAITED_IN_VAIN | {Cause.lost_peer}
"""Classes of which stacks and collectives tell more, where they were kept."""


@dataclass(frozen=True)
class Evidence:
    """Lines and where they stand: a path within the run folder, or who said them."""

    source: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """What an attempt left behind, before anybody concludes from it.

    `told` are lines that name a class of failure, by log; `slurm` Slurm's own lines; `kernel` those of each host.
    """

    told: dict[Path, list[tuple[str, Cause]]] = field(default_factory=dict)
    slurm: tuple[Word, ...] = ()
    kernel: dict[str, list[str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def find(folder: RunFolder, attempt: Attempt) -> Findings:
    """Look through the logs, reports and events of an attempt."""
    told: dict[Path, list[tuple[str, Cause]]] = {}
    words: list[Word] = []
    for path in logs_of(folder, attempt):
        lines = last_text_lines(path, SCANNED)
        if path.parent == folder.path:
            lines = part_of(lines, attempt.number)
        words.extend(words_of(lines))
        telling = [(line, cause) for line, cause in telling_lines(lines) if not line.startswith("slurmstepd:")]
        if telling:
            told[path] = telling
    reports = read_records(attempt.agent_reports, AgentReport)
    kernel = {report.host: report.kernel for report in reports if report.kernel}
    warnings = [
        str(line.get("text", ""))
        for line in read_lines(folder.events)
        if line.get("event") == "warning" and line.get("attempt") == attempt.number
    ]
    return Findings(told, tuple(dict.fromkeys(words)), kernel, tuple(warnings[-WARNINGS:]))


def logs_of(folder: RunFolder, attempt: Attempt) -> Iterator[Path]:
    """The logs of ranks, then agents, then the job script and what Slurm wrote before the attempt had a folder."""
    yield from sorted(attempt.logs.glob("node*-rank*.log"))
    yield from sorted(attempt.logs.glob("node*-agent.log"))
    if attempt.job_log.exists():
        yield attempt.job_log
    yield from sorted(folder.path.glob("slurm-*.log"))


def part_of(lines: list[str], attempt: int) -> list[str]:
    """The lines of one attempt in the output of a job that was requeued: from where it says that it began."""
    begun = [(place, int(found[1])) for place, line in enumerate(lines) if (found := BEGUN.search(line))]
    own = [place for place, number in begun if number == attempt]
    if not own:
        return [] if begun else lines
    later = [place for place, _ in begun if place > own[-1]]
    return lines[own[-1] : min(later, default=len(lines))]


def collect(folder: RunFolder, attempt: Attempt, root: RootCause | None, found: Findings) -> list[Evidence]:
    """The evidence for a person, the most telling first."""
    evidence = []
    if root is not None and root.traceback:
        evidence.append(Evidence(_who(root), shortened(root.traceback.rstrip().splitlines(), TRACEBACK_LINES)))
    if root is not None and root.cause in WAITING and attempt.stacks.is_dir():
        told = {"the flight recorder": stood_still.collectives(attempt)}
        told[f"where each rank was ({place(folder, attempt.stacks)})"] = list(stood_still.places(attempt, root.rank))
        evidence += [Evidence(source, tuple(lines)) for source, lines in told.items() if lines]
    if found.slurm:
        evidence.append(Evidence("Slurm", tuple(word.line for word in found.slurm[:TOLD])))
    for host, lines in found.kernel.items():
        evidence.append(Evidence(f"kernel of {host}", tuple(lines[-TOLD:])))
    shown = {line.strip() for each in evidence for line in each.lines}
    for path, telling in _first_of_each(found.told, root):
        lines = [line for line, _ in telling if line not in shown][:TOLD]
        if lines:
            shown |= set(lines)
            evidence.append(Evidence(place(folder, path), tuple(lines)))
    if root is None or not root.traceback:
        evidence.extend(_log_end(folder, attempt, root, shown))
    if found.warnings:
        evidence.append(Evidence("warnings of the run", found.warnings))
    return evidence


def place(folder: RunFolder, path: Path) -> str:
    """A path as it is called within the run folder."""
    return str(path.relative_to(folder.path)) if path.is_relative_to(folder.path) else str(path)


def shortened(lines: list[str], most: int) -> tuple[str, ...]:
    """The first line of a traceback and its end, with what was left out said in between."""
    if len(lines) <= most:
        return tuple(lines)
    return (lines[0], f"  … {len(lines) - most} lines", *lines[-most + 1 :])


def _who(root: RootCause) -> str:
    return f"rank {root.rank} on {root.host}" if root.rank >= 0 else f"the agent on {root.host}"


def _first_of_each(
    told: dict[Path, list[tuple[str, Cause]]], root: RootCause | None
) -> Iterable[tuple[Path, list[tuple[str, Cause]]]]:
    """The log of the first failure before the others, of which three are enough."""
    own = root.log if root is not None else None
    return sorted(told.items(), key=lambda item: item[0] != own)[: TOLD - 1]


def _log_end(folder: RunFolder, attempt: Attempt, root: RootCause | None, shown: set[str]) -> Iterator[Evidence]:
    """The end of the log in which the failure happened; without one, of what the job script said."""
    paths = [root.log] if root is not None else []
    paths += [attempt.agent_log(0), attempt.job_log]
    for path in paths:
        lines = [line.rstrip() for line in last_text_lines(path, LOG_LINES) if line.strip()]
        if lines and not {line.strip() for line in lines} <= shown:
            yield Evidence(f"the end of {place(folder, path)}", tuple(lines))
            return
