"""Which class an attempt's end belongs to: what ranks and agents said, corrected by what others saw. Pure.

A rank that was killed does not know by whom, agents that are gone said nothing, and who lost a peer knows only that:
there Slurm's, the kernel's and the libraries' own lines say more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from conf.cause import TERMINATED, WAITED_IN_VAIN
from conf.outcome import Cause, Failure, State
from launcher.runs.cause import RootCause
from launcher.why.evidence import Findings
from slurm.words import Word

BY_STATE = {
    State.stopped: Cause.cancelled,
    State.cancelled: Cause.cancelled,
    State.preempted: Cause.preempted,
    State.time_limit: Cause.time_limit,
}
BY_SLURM = {
    "OUT_OF_MEMORY": Cause.oom,
    "NODE_FAIL": Cause.node_fail,
    "BOOT_FAIL": Cause.node_fail,
    "TIMEOUT": Cause.time_limit,
    "DEADLINE": Cause.time_limit,
    "PREEMPTED": Cause.preempted,
    "REQUEUED": Cause.preempted,
    "CANCELLED": Cause.cancelled,
}
"""What Slurm's final states mean, the most telling first."""

XID = re.compile(r"nvrm: xid|fallen off the bus", re.IGNORECASE)
KNOWS_LITTLE = frozenset({Cause.lost_peer, Cause.unknown})


@dataclass(frozen=True)
class Verdict:
    """The class, and who said it first. `rank` is -1 for an agent or the data step, None where nobody is to blame."""

    cause: Cause
    message: str
    rank: int | None = None
    node: int | None = None
    host: str = ""
    time: float | None = None


def conclude(
    state: State | None,
    reason: str,
    root: RootCause | None,
    written: Failure | None,
    found: Findings,
    slurm_state: str = "",
) -> Verdict | None:
    """The verdict on an attempt; None where nothing went wrong, as far as anything tells.

    Args:
        state: how it ended, as was decided; None where nobody wrote that down.
        reason: the words with it.
        root: the first failure that ranks and agents wrote.
        written: the failure in `outcome.json`, where that is this attempt's.
        found: what its logs hold.
        slurm_state: the job's final state in the accounting database.
    """
    if state is State.done:
        return None
    if state in BY_STATE:
        return Verdict(BY_STATE[state], reason)
    first = _verdict_of(root, written)
    strongest = _strongest(found.slurm, slurm_state)
    if first is None:
        first = Verdict(Cause.unknown, reason) if state is State.failed else None
    if first is None:
        return _by_slurm(strongest, Verdict(Cause.unknown, "")) if strongest else None
    xid = _xid(first, found)
    if xid is not None:
        return xid
    if first.cause is Cause.killed:
        return _killed(first, found, strongest)
    if first.cause in KNOWS_LITTLE and strongest and _explains(strongest, first):
        return _by_slurm(strongest, first)
    if first.cause is Cause.unknown:
        return _by_log(first, root, found)
    return first


def _verdict_of(root: RootCause | None, written: Failure | None) -> Verdict | None:
    """The first failure; what was written down after the attempt counts where it says more than ranks did."""
    by_files = Verdict(root.cause, root.message, root.rank, root.node, root.host, root.time) if root else None
    if written is None or (by_files is not None and root is not None and root.message != TERMINATED):
        return by_files
    return Verdict(written.cause, written.message, written.rank, written.node, written.host, written.time)


def _strongest(words: tuple[Word, ...], slurm_state: str) -> Word | None:
    """The most telling of Slurm's words."""
    said = [*words, *([Word(slurm_state, f"the job's state: {slurm_state}")] if slurm_state in BY_SLURM else [])]
    order = list(BY_SLURM)
    return min(said, key=lambda word: order.index(word.state), default=None)


def _xid(first: Verdict, found: Findings) -> Verdict | None:
    """A GPU that failed by the kernel's log, where ranks only say that they waited, lost somebody or aborted."""
    if first.cause not in KNOWS_LITTLE | WAITED_IN_VAIN and "SIGABRT" not in first.message:
        return None
    for host, lines in found.kernel.items():
        line = next((line for line in lines if XID.search(line)), None)
        if line is not None:
            own = first if host == first.host else replace(first, rank=None, node=None, host=host)
            return replace(own, cause=Cause.gpu, message=_joined(line, first.message))
    return None


def _explains(word: Word, first: Verdict) -> bool:
    """Whether a word of Slurm's is about this failure: what failed by itself is cancelled afterwards in any case."""
    return word.state != "CANCELLED" or first.rank in (None, -1)


def _by_slurm(word: Word, first: Verdict) -> Verdict:
    return replace(
        first, cause=BY_SLURM[word.state], message=_joined(word.line, first.message), host=word.node or first.host
    )


def _killed(first: Verdict, found: Findings, strongest: Word | None) -> Verdict:
    """SIGKILL is the kernel's where it counts as out of memory, and Slurm's where Slurm says so; SIGTERM is Slurm's."""
    if first.message == TERMINATED:
        return _by_slurm(strongest, first) if strongest is not None else first
    if "SIGKILL" not in first.message:
        return first
    kernel = next((line for line in found.kernel.get(first.host, ()) if "out of memory" in line.lower()), None)
    if kernel is not None:
        return replace(first, cause=Cause.oom, message=_joined(first.message, kernel))
    if strongest is not None and strongest.state != "CANCELLED":
        return _by_slurm(strongest, first)
    return first


def _by_log(first: Verdict, root: RootCause | None, found: Findings) -> Verdict:
    """What the log of the one that left without a word says, else any log of the attempt."""
    own = found.told.get(root.log) if root is not None else None
    told = own or next(iter(found.told.values()), None)
    if told is None:
        return first
    line, cause = told[-1]
    return replace(first, cause=cause, message=_joined(first.message, line))


def _joined(one: str, other: str) -> str:
    return "; ".join(part for part in dict.fromkeys((one, other)) if part)
