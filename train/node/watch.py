"""How the processes of a node really ended, and the files that say so.

torchelastic looks at its processes ten times a second and names one of those it then finds dead, often a victim. Here
a thread for each rank waits in the kernel (`waitid` with WNOWAIT, so that torchelastic still reaps the process itself)
and notes status and time. Ranks write their own errors with `record_failure`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path

from conf.cause import ABORTED, classify_exit, describe_exit, ended_badly
from conf.layout import Attempt
from conf.outcome import AgentReport, Cause, Failure, RankExit, write_record
from train.node.causes import classify, classify_printed, origin_of
from train.node.kernel import describe_shared_memory, is_shared_memory_full
from train.node.log_tail import printed_error, read_tail

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for ranks that another rank's failure has made useless."""

FATAL = ("Fatal Python error:", ABORTED)
"""How the last words of a crashing process begin, in Python's faulthandler and in C++."""
INNERMOST_FIRST = "most recent call first"
FATAL_SAID, FATAL_FRAMES = 3, 10
CRASH_LINES = 800
"""Lines from the end of a log within which a crash begins; a stack of each thread follows it."""


class Watch:
    """Watches the ranks of a node from their start to their end."""

    def __init__(self, pids: Mapping[int, int], first_rank: int):
        """`pids` by local rank; `first_rank` is the number of local rank 0."""
        self._pids = dict(pids)
        self._first_rank = first_rank
        self._exits: dict[int, RankExit] = {}
        self._lock = threading.Lock()
        self._ending = False
        self._threads = [
            threading.Thread(target=self._wait_for, args=(local_rank, pid), daemon=True)
            for local_rank, pid in self._pids.items()
        ]
        for thread in self._threads:
            thread.start()

    def living(self) -> dict[int, int]:
        """Process ids of the ranks whose end was not seen yet, by local rank."""
        with self._lock:
            return {local_rank: pid for local_rank, pid in self._pids.items() if local_rank not in self._exits}

    def mark_ending(self) -> None:
        """From here on an end by SIGTERM or SIGKILL is the agent's doing, and one that lingers is killed."""
        with self._lock:
            if self._ending:
                return
            self._ending = True
        threading.Thread(target=self._kill_lingering, daemon=True).start()

    def exits(self, succeeded: bool, timeout_s: float = 1.0) -> list[RankExit]:
        """The end of every rank, by rank; a status nobody could see is None, or 0 where all have `succeeded`."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        now = time.time()
        with self._lock:
            unseen = {
                local_rank: RankExit(
                    rank=self._first_rank + local_rank,
                    local_rank=local_rank,
                    pid=pid,
                    time=now,
                    exit_status=0 if succeeded else None,
                    ended_by_agent=not succeeded,
                )
                for local_rank, pid in self._pids.items()
            }
            found = unseen | self._exits
        return [found[local_rank] for local_rank in sorted(found)]

    def _wait_for(self, local_rank: int, pid: int) -> None:
        try:
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # torchelastic was faster: only after the first end, which it looks for in a poll
            return
        if result is None:
            return
        by_signal = result.si_code != os.CLD_EXITED
        status = result.si_status
        with self._lock:
            self._exits[local_rank] = RankExit(
                rank=self._first_rank + local_rank,
                local_rank=local_rank,
                pid=pid,
                time=time.time(),
                exit_status=None if by_signal else status,
                signal=status if by_signal else None,
                ended_by_agent=self._ending and by_signal and status in (signal.SIGTERM, signal.SIGKILL),
            )
        if by_signal or status != 0:
            self.mark_ending()

    def _kill_lingering(self) -> None:
        deadline = time.monotonic() + GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            lingering = [pid for local_rank, pid in self._pids.items() if local_rank not in self._exits]
        for pid in lingering:
            if _is_child(pid):
                _kill_group(pid)


def _is_child(pid: int) -> bool:
    """Whether the process is still there and ours, so that no other process of the same number is hit."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _kill_group(pid: int) -> None:
    """Kill a rank with what it started; it leads a group of its own from its first moments on."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)


def describe_failure(exception: BaseException, rank: int, node: int) -> Failure:
    """What an exception says of this process's failure, at this moment."""
    return Failure(
        rank=rank,
        node=node,
        host=socket.gethostname(),
        time=time.time(),
        cause=classify(exception),
        message=f"{type(exception).__name__}: {exception}".strip(": "),
        traceback="".join(traceback.format_exception(exception)),
        pid=os.getpid(),
        origin=origin_of(exception),
    )


def record_failure(path: Path, exception: BaseException, rank: int, node: int) -> None:
    """Write a process's own word on why it fails. A full disk is no reason to fail differently."""
    failure = describe_failure(exception, rank, node)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, failure)
    except OSError as error:
        print(f"{path} could not be written: {error}", flush=True)


def speak_for_the_silent(attempt: Attempt, node: int, exits: list[RankExit], out_of_memory: bool) -> None:
    """Write the failure of every rank that ended badly, not by the agent, and without a word of its own."""
    for rank_exit in exits:
        path = attempt.failure(rank_exit.rank)
        if not ended_badly(rank_exit) or rank_exit.ended_by_agent or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, _silent_failure(attempt, node, rank_exit, out_of_memory))


def _silent_failure(attempt: Attempt, node: int, rank_exit: RankExit, out_of_memory: bool) -> Failure:
    """What can be known of a rank that said nothing: its end, the kernel's count, the end of its log."""
    log = attempt.rank_log(node, rank_exit.rank)
    lines = read_tail(log)
    cause = classify_exit(rank_exit.exit_status, rank_exit.signal, out_of_memory, lines)
    message = describe_exit(rank_exit.exit_status, rank_exit.signal)
    printed = printed_error(lines, rank_exit.exit_status, rank_exit.signal)
    if printed:
        cause, message = classify_printed(printed[-1]), printed[-1]
    if rank_exit.signal == signal.SIGBUS:
        cause = Cause.shm_full if is_shared_memory_full() else cause
        message = f"{message}; {describe_shared_memory()}"
    if cause is Cause.oom and rank_exit.signal == signal.SIGKILL:
        message += " (the kernel ended it: host memory ran out)"
    return Failure(
        rank=rank_exit.rank,
        node=node,
        host=socket.gethostname(),
        time=rank_exit.time,
        cause=cause,
        message=message,
        traceback="\n".join(printed) or fatal_lines(read_tail(log, CRASH_LINES)),
        pid=rank_exit.pid,
    )


def fatal_lines(lines: Sequence[str]) -> str:
    """What a crashing process left in its log, without the rest of it: empty where it left nothing.

    C++ says what it threw; then comes Python's faulthandler, the innermost lines first, the crashing thread last.
    """
    begun = next((place for place, line in enumerate(lines) if line.startswith(FATAL)), None)
    if begun is None:
        return ""
    own = lines[begun:]
    said = [line for line in takewhile(lambda line: INNERMOST_FIRST not in line, own) if line.strip()]
    current = next((place for place, line in enumerate(own) if line.startswith("Current thread")), len(own))
    stack = takewhile(str.strip, own[current:])
    return "\n".join([*said[:FATAL_SAID], *islice(stack, FATAL_FRAMES)])


def write_report(attempt: Attempt, report: AgentReport) -> None:
    """Write what the agent of a node saw."""
    path = attempt.agent_report(report.node)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, report)
