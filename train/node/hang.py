"""Who is at fault where nobody moves: the rank that did not come, not those that wait for it. Pure.

In a hang all ranks stand still: one for a reason of its own, the others in a collective. What tells them apart, the
surest first: a node that says nothing, a process that is stopped or gone, a collective that others entered, a
process inside the kernel (a file system that does not answer), fewer steps, a stack outside of any collective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from conf.cause import NO_PROGRESS
from conf.flight_recorder import Absence, Collective, absences

IN_COLLECTIVE = ("torch/distributed/distributed_c10d.py", "deepspeed/comm/")
"""Files whose functions wait for other ranks."""
LOADER = "train/data/"
FRAMES = 3
"""Innermost frames that tell what a thread waits in."""
LONG_STACK = 30
MOST_RECENT_FIRST = "most recent call first"
"""In the first line of each of faulthandler's stacks."""


@dataclass(frozen=True)
class Stand:
    """How one rank stands. `newest` are the newest collectives of each group, empty where it did not answer."""

    rank: int
    node: int
    host: str
    pid: int
    phase: str
    step: int
    quiet_s: float
    limit_s: float
    state: str
    stack: str
    newest: Mapping[str, Collective] = field(default_factory=dict)

    @property
    def is_stopped(self) -> bool:
        return self.state in ("t", "T")

    @property
    def waits_for_others(self) -> bool:
        """Whether its stack is inside a collective."""
        return any(name in line for line in self.frames[:FRAMES] for name in IN_COLLECTIVE)

    @property
    def frames(self) -> list[str]:
        """Lines of the stack that name a file, a line and a function, innermost first."""
        return [line.strip() for line in self.stack.splitlines() if line.strip().startswith("File ")]

    @property
    def whereabouts(self) -> str:
        """What it does, in words; empty where it waits for others or nothing is known."""
        if not self.frames or self.waits_for_others:
            return ""
        if any(LOADER in line for line in self.frames):
            return "it waits for its data"
        return f"it is in {self.frames[0]}"


@dataclass(frozen=True)
class Culprit:
    """The rank at fault (-1: a whole node) and why it is the one, in words."""

    rank: int
    node: int
    why: str


def find_culprit(stands: Sequence[Stand], hosts: Sequence[str], silent_nodes: Sequence[int] = ()) -> Culprit:
    """The one at fault; where nothing tells, the rank that moved first of all to stand still.

    Args:
        stands: of every rank that still runs, at least one unless there are silent nodes.
        silent_nodes: those whose agents said nothing.
    """
    if silent_nodes:
        node = silent_nodes[0]
        return Culprit(-1, node, f"the agent of {hosts[node]} does not answer: the machine hangs, or its link is cut")
    for judge in JUDGES:
        found = judge(stands)
        if found is not None:
            return found
    longest = max(stands, key=lambda stand: stand.quiet_s)
    if all(stand.waits_for_others for stand in stands):
        return _blame(longest, "every rank came to the same collective: the network between them, or a device, hangs")
    return _blame(longest, "no rank waits for another")


def _stopped(stands: Sequence[Stand]) -> Culprit | None:
    stopped = next((stand for stand in stands if stand.is_stopped), None)
    return None if stopped is None else _blame(stopped, "its process is stopped (SIGSTOP or a debugger)")


def _missing(stands: Sequence[Stand]) -> Culprit | None:
    answered = {stand.rank: stand.newest for stand in stands if stand.newest}
    found: list[Absence] = absences(answered)
    if not found:
        return None
    absent = set(found[0].missing)
    candidates = [stand for stand in stands if stand.rank in absent]
    outside = [stand for stand in candidates if not stand.waits_for_others]
    first = min(outside or candidates, key=lambda stand: (stand.step, -stand.quiet_s))
    return _blame(first, found[0].in_words())


def _silent(stands: Sequence[Stand]) -> Culprit | None:
    """The others answered with their collectives, this one did not: its interpreter is held."""
    silent = [stand for stand in stands if not stand.newest]
    if not silent or len(silent) == len(stands):
        return None
    return _blame(silent[0], "it does not answer: something holds its interpreter")


def _in_kernel(stands: Sequence[Stand]) -> Culprit | None:
    stuck = [stand for stand in stands if stand.state == "D"]
    if not stuck or len(stuck) == len(stands):
        return None
    return _blame(stuck[0], "it waits inside the kernel: a file system or a device does not answer")


def _behind(stands: Sequence[Stand]) -> Culprit | None:
    least, most = min(stand.step for stand in stands), max(stand.step for stand in stands)
    if least == most:
        return None
    return _blame(next(stand for stand in stands if stand.step == least), f"it is at step {least}, others at {most}")


def _outside(stands: Sequence[Stand]) -> Culprit | None:
    outside = [stand for stand in stands if not stand.waits_for_others]
    if not outside or len(outside) == len(stands):
        return None
    return _blame(outside[0], "the others wait for it in a collective")


JUDGES: tuple[Callable[[Sequence[Stand]], Culprit | None], ...] = (
    _stopped,
    _missing,
    _in_kernel,
    _silent,
    _behind,
    _outside,
)


def _blame(stand: Stand, why: str) -> Culprit:
    return Culprit(stand.rank, stand.node, why)


def describe(stand: Stand, why: str) -> str:
    """The failure in a line: `no sign of progress for 612 s in train after step 41 (limit 600 s); …`."""
    at = f" after step {stand.step}" if stand.step else ""
    quiet = f"{NO_PROGRESS} for {stand.quiet_s:.0f} s in {stand.phase}{at} (limit {stand.limit_s:.0f} s)"
    return "; ".join(filter(None, (quiet, why, stand.whereabouts)))


def as_traceback(stack: str) -> str:
    """The innermost frames of one of faulthandler's stacks, in Python's order: the innermost last."""
    head, *frames = stack.splitlines() or [""]
    if MOST_RECENT_FIRST not in head:
        return stack
    left_out = ["  …"] if len(frames) > LONG_STACK else []
    return "\n".join(["Stack (most recent call last):", *left_out, *reversed(frames[:LONG_STACK])])
