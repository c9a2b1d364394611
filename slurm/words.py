"""What Slurm writes into the output of a job when it ends it or something happens to it: a line to a job's state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LINES = (
    (r"oom[-_]kill event|Out Of Memory|OOM Killed|[Ee]xceeded (?:job|step) memory limit", "OUT_OF_MEMORY"),
    (r"DUE TO TIME LIMIT", "TIMEOUT"),
    (r"DUE TO PREEMPTION", "PREEMPTED"),
    (r"DUE TO JOB REQUEUE", "REQUEUED"),
    (r"DUE TO NODE (?:FAILURE|(?P<node>[\w.-]+) FAILURE)|[Nn]ode failure on (?P<node2>[\w.\[\],-]+)", "NODE_FAIL"),
    (r"launch failed|Unable to create step|Prolog error", "BOOT_FAIL"),
    (r"\*\*\* JOB \S+ ON \S+ CANCELLED", "CANCELLED"),  # steps are cancelled after any failure as well
)
_COMPILED = tuple((re.compile(pattern), state) for pattern, state in _LINES)


@dataclass(frozen=True)
class Word:
    """A line of Slurm's: the state that it gives as the reason, and the node, where it names one."""

    state: str
    line: str
    node: str = ""


def words_of(lines: Iterable[str]) -> Iterator[Word]:
    """Slurm's own lines among those of a log. A cancel without a reason says least and comes with every other."""
    for line in lines:
        if not line.startswith(("slurmstepd:", "slurmd", "srun:")):
            continue
        for pattern, state in _COMPILED:
            found = pattern.search(line)
            if found:
                yield Word(state, line.strip(), _node(found))
                break


def _node(found: re.Match[str]) -> str:
    named = found.groupdict()
    return named.get("node") or named.get("node2") or ""
