"""The process of one rank: its first moments, its cores, and its last words.

A forked rank inherits the agent's session, handlers and streams, so all of that is set here, for both kinds of start.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from conf.layout import RunFolder
from conf.outcome import Cause
from train.node.env import RankEnv, read_rank_env
from train.node.frames import call_with_room
from train.node.log_tail import STACKS
from train.node.recorder import answer_the_agent, remember_collectives
from train.node.stacks import stacks_file, write_stacks_on_request
from train.node.streams import flush_streams, use_patient_streams
from train.node.watch import record_failure
from train.pulse import PULSE, pulse_file

Entry = Callable[[RunFolder, int], None]
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15


class RankExitError(Exception):
    """The rank's code called `sys.exit` with a status other than 0."""

    cause = Cause.user_code


def run_rank(entry: Entry, folder: RunFolder, attempt: int, agent_pid: int) -> None:
    """Run `entry` as one rank: with its log, bound to its agent's life, and with a written failure if it fails.

    Returns where `entry` returned; leaves the process with status 1 where it did not.
    """
    rank = read_rank_env(os.environ)
    set_process_name(f"rank{rank.rank}")
    own = folder.attempt(attempt)
    begin_rank(own.rank_log(rank.node, rank.rank), agent_pid, stacks_file(rank.scratch, rank.local_rank))
    remember_collectives(os.environ, own.nccl_flights(rank.node))
    PULSE.attach(pulse_file(rank.scratch, rank.local_rank))
    answer_the_agent(rank.scratch, rank.local_rank)
    try:
        bind_to_gpu(rank)
        try:
            call_with_room(lambda: entry(folder, attempt))
        except SystemExit as error:
            if error.code not in (None, 0):
                raise RankExitError(f"sys.exit({error.code!r})") from error
    except BaseException as error:
        _end_failed(error, folder, attempt, rank)
    flush_streams()


def begin_rank(log: Path, agent_pid: int, stacks: Path) -> None:
    """Own session, death with the agent, both streams appended to `log`, the answers to SIGUSR1 to `stacks`.

    SIGTERM is the agent's to understand: Slurm sends it to every process of a step when it preempts, and a rank that
    died of it could not save. Agents end their ranks with SIGKILL.
    """
    if os.getpid() != os.getsid(0):
        os.setsid()
    die_with_parent()
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the agent holds it back until here
    if os.getppid() != agent_pid:  # the agent died before the line above could take hold
        os._exit(1)
    flush_streams()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, log.parent.stat().st_mode & 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    use_patient_streams()
    faulthandler.enable(file=2, all_threads=True)
    write_stacks_on_request(stacks)


def _end_failed(error: BaseException, folder: RunFolder, attempt: int, rank: RankEnv) -> NoReturn:
    """Say what went wrong in the failure file and in the log, then leave without running anybody's clean-up."""
    record_failure(folder.attempt(attempt).failure(rank.rank), error, rank.rank, rank.node)
    print(STACKS, flush=True)
    faulthandler.dump_traceback(file=2, all_threads=True)
    traceback.print_exception(error)
    leave_process(1)


def leave_process(status: int) -> NoReturn:
    """End at once, without threads or exit handlers that may hang where peers are gone."""
    flush_streams()
    os._exit(status)


def set_process_name(name: str) -> None:
    """What `ps -o comm` and `top` show; a forked rank would look like its agent."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def bind_to_gpu(rank: RankEnv) -> None:
    """Keep the rank on the cores next to its GPU, where the machine says which; memory follows by first touch."""
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return
    import torch

    if not torch.cuda.is_available() or rank.local_rank >= torch.cuda.device_count():
        return
    properties: Any = torch.cuda.get_device_properties(rank.local_rank)
    bus = f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    cores = cores_near(bus) & os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
        print(f"rank {rank.rank}: GPU {rank.local_rank} ({bus}), bound to its {len(cores)} cores", flush=True)


def cores_near(bus: str, sys_root: Path = Path("/sys")) -> set[int]:
    """The cores of the NUMA node to which a PCI device belongs; empty where the kernel does not say."""
    try:
        node = int((sys_root / "bus/pci/devices" / bus / "numa_node").read_text())
        cores = (sys_root / f"devices/system/node/node{node}/cpulist").read_text().strip()
    except (OSError, ValueError):
        return set()
    return parse_cores(cores)


def parse_cores(text: str) -> set[int]:
    """The kernel's list of cores: `0-3,8` is {0, 1, 2, 3, 8}."""
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
