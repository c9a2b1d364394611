"""The owner of torchelastic: starts the ranks of a node with its agent and follows them to their end.

Only its documented parts are used, save `_start_workers`, `_monitor_workers`, `_exit_barrier` and `_shutdown`: they are
overridden to learn the process ids, to look for ranks that hang, and to leave in a way that a signal can end.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

from train.node.meeting import Meeting
from train.node.watch import Watch
from train.node.watchdog import Watchdog, prepare_scratch

MONITOR_S = 0.1
Guard = Callable[[int, Watch], Watchdog]


class OwnLogs(LogsSpecs):
    """Leaves the streams alone: ranks append to their own logs (`train.node.process`), both streams to one file."""

    def __init__(self, scratch: Path):
        super().__init__()
        self._scratch = scratch

    @property
    def root_log_dir(self) -> str:
        return str(self._scratch)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """No redirection; error files that torchelastic asks for, in the node's scratch folder."""
        error_files = {}
        for local_rank, environment in envs.items():
            error_files[local_rank] = str(self._scratch / f"torchelastic-{local_rank}.json")
            environment["TORCHELASTIC_ERROR_FILE"] = error_files[local_rank]
        streams = dict.fromkeys(envs, "")
        return LogsDest(stdouts=dict(streams), stderrs=dict(streams), error_files=error_files)


class RankAgent(LocalElasticAgent):
    """torchelastic's agent, which hands the process ids to a watch, and its ranks to a watchdog, once there are any."""

    def __init__(self, spec: WorkerSpec, logs: LogsSpecs, meeting: Meeting, start_method: str, guard: Guard):
        super().__init__(spec, logs, start_method=start_method)
        self._meeting = meeting
        self._guard = guard
        self.watch: Watch | None = None
        self._watchdog: Watchdog | None = None

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        answer = signal.getsignal(signal.SIGTERM)  # the node agent's own, which torchelastic replaces
        # A rank is born with it held back: until `begin_rank` it would die of it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pids: dict[int, int] = super()._start_workers(worker_group)
        finally:
            signal.signal(signal.SIGTERM, answer)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        first_rank = worker_group.workers[0].global_rank
        self.watch = Watch(pids, first_rank)
        self._watchdog = self._guard(first_rank, self.watch)
        return pids

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is WorkerState.HEALTHY and self._watchdog is not None:
            self._watchdog.look()
        return result

    def _exit_barrier(self) -> None:
        if self._watchdog is not None:
            self._watchdog.leave()
        self._meeting.leave(succeeded=True)

    def _shutdown(self, *_: Any, **__: Any) -> None:
        """What torch hands over differs between its versions; ranks ignore SIGTERM, so that it is SIGKILL in all."""
        if self.watch is not None:
            self.watch.mark_ending()
        super()._shutdown(signal.SIGKILL)


def make_agent(
    entrypoint: Callable[[], None] | list[str],
    ranks: int,
    meeting: Meeting,
    head: str,
    port: int,
    scratch: Path,
    guard: Guard,
) -> RankAgent:
    """An agent that forks `entrypoint` where it is a function and runs it where it is an argument vector.

    `guard` makes the watchdog once the ranks run, from the number of the first one and their watch.
    """
    prepare_scratch(scratch, ranks)
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):  # they name victims; the agent speaks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"  # all nodes have as many ranks: numbered without the store
    entry: Any = entrypoint
    arguments: tuple[str, ...] = ()
    if isinstance(entrypoint, list):
        entry = entrypoint[0]
        # torchelastic substitutes ${local_rank} in arguments: a dollar of ours is doubled to stay one
        arguments = tuple(argument.replace("$", "$$") for argument in entrypoint[1:])
    spec = WorkerSpec(
        role="rank",
        local_world_size=ranks,
        entrypoint=entry,
        args=arguments,
        rdzv_handler=meeting,
        max_restarts=0,
        monitor_interval=MONITOR_S,
        master_addr=head,
        master_port=port,
    )
    return RankAgent(spec, OwnLogs(scratch), meeting, "spawn" if isinstance(entrypoint, list) else "fork", guard)


def run_to_end(agent: RankAgent) -> bool:
    """Start the ranks and wait for them: whether all ended well.

    Raises:
        NodeLostError: another node failed; the ranks are down.
        HangError: no rank moved any more; the ranks are down.
        BaseException: what the handler of SIGTERM raised; the ranks are down.
    """
    return not agent.run().is_failed()
