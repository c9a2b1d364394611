"""The faults that a run survives: what happens, what has to follow, and the mark by which it passes.

A test names the rows it proves with `@pytest.mark.fault(7)` and notes what it measured in the fixture `figures`;
`make faults` prints both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A row of the table. `seen_on_nccl` stays False until somebody saw it on GPUs."""

    row: int
    fault: str
    must: str
    mark: str
    seen_on_nccl: bool = False


@dataclass(frozen=True)
class Proof:
    """One test of a row: whether it passed, and what it measured."""

    row: int
    case: str
    passed: bool
    figures: Mapping[str, Any] = field(default_factory=dict)


TABLE = (
    Fault(1, "a rank is killed, crashes or leaves", "all ranks end; cause with rank, host, signal; goes on", "exact"),
    Fault(2, "a rank raises", "its own traceback comes first, no victim's", "right rank"),
    Fault(3, "host memory runs out", "class oom, what to change, no blind retry", "right class"),
    Fault(4, "GPU memory runs out", "class cuda_oom, predicted against measured, no blind retry", "right class"),
    Fault(5, "a node dies", "requeued, resumed, node noted", "exact"),
    Fault(6, "the same node fails twice", "left out of the next attempt", "not used again"),
    Fault(7, "a rank hangs", "stacks of all ranks kept, job ended, requeued", "limit + 10 s"),
    Fault(8, "a rank is slow", "named with host and factor, not killed", "within 50 steps"),
    Fault(9, "preemption", "vote, save, exit; goes on; same W&B run", "0 steps lost where the grace covers a save"),
    Fault(10, "time limit", "saved before it, goes on", "0 steps lost"),
    Fault(11, "a stop in evaluation, data step, warm-up or save", "the same; one save", "one valid checkpoint"),
    Fault(12, "stop, cancel, scancel", "ended, not requeued, said which", "right state"),
    Fault(13, "killed at 10 random points of a save", "half a checkpoint is never used", "exact, 10 of 10"),
    Fault(14, "the newest checkpoint is damaged", "put aside, the one before used, said", "bad bits never load"),
    Fault(15, "every checkpoint is damaged", "a clear end", "never step 0 in silence"),
    Fault(16, "the disk is full", "old checkpoint kept, partial removed, goes on if it can", "nothing lost"),
    Fault(17, "NaN or Inf on one rank", "all ranks agree; skipped up to the budget, then the end", "outcome nan"),
    Fault(18, "a crash loop", "ended after 3 attempts without progress", "no_progress"),
    Fault(19, "the port is taken", "the next port, same attempt", "starts"),
    Fault(20, "two jobs on one run", "the second refuses; a stale lock is broken", "clear error"),
    Fault(21, "W&B refuses, fails, hangs, is slow", "training goes on at its pace", "push completes"),
    Fault(22, "Slurm's controller is away", "asked again", "one job"),
    Fault(23, "another world size at resume", "converted and said; same order", "loss within tolerance"),
    Fault(24, "the configuration changed between attempts", "refused with the difference, unless forced", "shown"),
    Fault(25, "the login shell dies", "nothing changes", "status reads the files"),
    Fault(26, "the network between nodes is cut", "ends, requeued, link named", "exact"),
    Fault(27, "30 random faults, one about every 20 s", "finishes", "exact"),
)


MEASURED = {
    "noticed_s": "noticed after, s",
    "again_s": "running again after, s",
    "steps_lost": "steps lost",
    "goodput": "goodput",
}
"""Figures with a column of their own: seconds from the fault to the end of the attempt, seconds from the new start to
its first step (time in the queue apart), steps done again, useful step time / wall time."""


def lines(proofs: Sequence[Proof]) -> list[str]:
    """The table as Markdown: a line for each proof, and one for each row that no test proved."""
    head = ["#", "fault", "what must happen", "mark", "test", "passed", *MEASURED.values(), "further", "seen on NCCL"]
    out = [_row(head), _row(["---"] * len(head))]
    for fault in TABLE:
        about = [str(fault.row), fault.fault, fault.must, fault.mark]
        nccl = "yes" if fault.seen_on_nccl else "no"
        own = [proof for proof in proofs if proof.row == fault.row]
        if not own:
            out.append(_row([*about, "not measured yet", "", *[""] * len(MEASURED), "", nccl]))
        for place, proof in enumerate(own):
            shown = about if place == 0 else ["", "", "", ""]
            figures = [str(proof.figures.get(name, "")) for name in MEASURED]
            further = ", ".join(
                f"{name} {_words(value)}" for name, value in proof.figures.items() if name not in MEASURED
            )
            passed = "yes" if proof.passed else "NO"
            out.append(_row([*shown, f"`{proof.case}`", passed, *figures, further, nccl if place == 0 else ""]))
    return out


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell.replace('|', '/')} " for cell in cells) + "|"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)
