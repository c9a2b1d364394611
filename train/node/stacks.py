"""What the processes of a node are doing, kept for a person: stacks, kernel's view, flight recorder.

A process that runs writes its stacks by itself (`faulthandler`, SIGUSR1), whatever its threads wait in. One that is
stopped cannot, and one inside the kernel cannot either: of those py-spy reads what it may, where it is installed, and
the kernel says where they are. Everything is written on the node first: the shared folder may be what hangs.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from train.node.hang import MOST_RECENT_FIRST
from train.node.recorder import pipe_of, recording_of

ANSWER_S = 3.0
QUIET_S = 0.3
PY_SPY_S = 10.0
POLL_S = 0.05
STOPPED = "tT"
"""States of a process that SIGSTOP or a debugger has stopped (proc(5))."""


@dataclass(frozen=True)
class Seen:
    """What was found out of a process: its state as proc(5) has it, whether it answered, its stacks and the rest."""

    state: str
    stacks: str
    kernel: str

    @property
    def is_stopped(self) -> bool:
        return self.state in STOPPED and self.state != ""

    @property
    def text(self) -> str:
        """All of it, for a file."""
        return "\n".join(filter(None, (f"state: {self.state or 'gone'}", self.kernel, self.stacks))) + "\n"

    @property
    def main_thread(self) -> str:
        """The stack of the thread that trains: the first one that was started, which faulthandler writes last."""
        return self.stacks.strip().rpartition("\n\n")[2]


def stacks_file(scratch: Path, local_rank: int) -> Path:
    """Where a rank's faulthandler writes when SIGUSR1 comes."""
    return scratch / f"stacks-{local_rank}"


def write_stacks_on_request(file: Path) -> None:
    """Have this process append the stacks of all its threads when SIGUSR1 comes."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    faulthandler.register(signal.SIGUSR1, file=descriptor, all_threads=True, chain=False)


def ask_all(scratch: Path, pids: Mapping[int, int]) -> dict[int, Seen]:
    """What each of the ranks is doing, by local rank; takes some seconds at most."""
    begun = {local_rank: _size(stacks_file(scratch, local_rank)) for local_rank in pids}
    for local_rank in pids:
        recording_of(scratch, local_rank).unlink(missing_ok=True)
        _poke(pipe_of(scratch, local_rank))
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    running = [local_rank for local_rank, pid in pids.items() if _state(pid) not in STOPPED]
    _await_answers(scratch, running, begun)
    return {local_rank: _seen(scratch, local_rank, pid, begun[local_rank]) for local_rank, pid in pids.items()}


def wake(scratch: Path, local_rank: int, pid: int, seen: Seen) -> Seen:
    """A stopped rank with the stacks that it writes in its first moment after SIGCONT; ask before, end it soon."""
    before = _size(stacks_file(scratch, local_rank))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    _await_stacks(scratch, [local_rank], {local_rank: before}, time.monotonic() + ANSWER_S)
    return replace(seen, stacks=seen.stacks + _read_from(stacks_file(scratch, local_rank), before))


def _seen(scratch: Path, local_rank: int, pid: int, begun: int) -> Seen:
    stacks = _read_from(stacks_file(scratch, local_rank), begun)
    if MOST_RECENT_FIRST not in stacks:
        stacks += _py_spy(pid)
    return Seen(_state(pid), stacks, _kernel(pid))


def _await_answers(scratch: Path, local_ranks: list[int], begun: Mapping[int, int]) -> None:
    deadline = time.monotonic() + ANSWER_S
    _await_stacks(scratch, local_ranks, begun, deadline)
    while time.monotonic() < deadline and not all(recording_of(scratch, rank).exists() for rank in local_ranks):
        time.sleep(POLL_S)


def _await_stacks(scratch: Path, local_ranks: list[int], begun: Mapping[int, int], deadline: float) -> None:
    """Until all have written and none writes any more."""
    sizes, since = [0], time.monotonic()
    while time.monotonic() < deadline:
        found = [_size(stacks_file(scratch, rank)) - begun[rank] for rank in local_ranks]
        if found != sizes:
            sizes, since = found, time.monotonic()
        if all(sizes) and time.monotonic() - since >= QUIET_S:
            return
        time.sleep(POLL_S)


def _poke(pipe: Path) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENXIO):  # nobody made one, nobody listens
            raise
        return
    try:
        os.write(descriptor, b"\n")
    except BlockingIOError:
        pass  # asked often enough
    finally:
        os.close(descriptor)


def _py_spy(pid: int) -> str:
    beside_python = str(Path(sys.executable).parent)  # where pip puts it, also of an environment nobody activated
    program = shutil.which("py-spy", path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    if program is None or not Path(f"/proc/{pid}").exists():
        return ""
    try:
        done = subprocess.run(
            [program, "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PY_SPY_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"py-spy: {error}"
    return f"py-spy:\n{done.stdout}{done.stderr}"


def _state(pid: int) -> str:
    """R, S, D (waits in the kernel), T (stopped), t (debugged), Z; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _kernel(pid: int) -> str:
    """Where in the kernel its main thread waits, as far as we may know (`stack` is root's)."""
    parts = []
    for name in ("wchan", "stack"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
            parts.append(f"{name}: {text}")
    return "\n".join(parts)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_from(path: Path, place: int) -> str:
    try:
        return path.read_bytes()[place:].decode(errors="replace")
    except FileNotFoundError:
        return ""
