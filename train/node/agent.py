"""A node's agent: prepares or waits for the data, starts the node's ranks, watches them, and says how they ended.

    environment → data step (node 0) beside the imports → port → meeting → ranks → report → decision (local runs)

Meaning travels in files: ranks and agents write why they failed, `train.node.decide` reads it. The exit status only
says whether every rank of this node ended well.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from conf.cause import TERMINATED
from conf.outcome import AgentReport, Cause, Failure, RankExit, StopReason, ask_to_stop, read_stop
from conf.schema import Access
from train.metrics.journal import Journal
from train.node.kernel import KernelWatch
from train.node.last_words import print_failures
from train.node.node import Node, check_gpus, check_topology, checks_itself
from train.node.script import unpack_project
from train.node.start import Start, choose_start, make_entrypoint, preload, set_environment
from train.node.watch import Watch, describe_failure, speak_for_the_silent, write_report

if TYPE_CHECKING:
    from train.node.data_step import DataStep
    from train.node.meeting import Meeting
    from train.node.watchdog import Watchdog

TIME_IS_UP_S = 3.0
"""Seconds before the end of the job's time from which on SIGTERM is the time limit's."""

MEET_S = 600.0
"""Longest that an agent waits for the others once the data is there; imports on a cold file system are slow."""


class Terminated(BaseException):
    """SIGTERM came."""


@dataclass
class Ending:
    """How it went on this node so far."""

    start: str = "none"
    exits: list[RankExit] = field(default_factory=list)
    succeeded: bool = False
    failure: Failure | None = None
    met: float | None = None
    silent: list[int] = field(default_factory=list)


def run_agent(node: Node) -> bool:
    """Do this node's part; whether it ended well (or stopped before its ranks were started)."""
    os.umask(0o077 if node.plan.config.access is Access.private else 0o027)
    set_environment(os.environ, node.plan, node.environment.scratch)
    _handle_signals(node)
    started = time.time()
    kernel = KernelWatch()
    ending = _follow(node)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    speak_for_the_silent(node.attempt, node.environment.node, ending.exits, kernel.ran_out_of_memory())
    report = AgentReport(
        node=node.environment.node,
        host=socket.gethostname(),
        started=started,
        ended=time.time(),
        start=ending.start,
        exits=ending.exits,
        failure=ending.failure,
        met=ending.met,
        kernel=[] if ending.succeeded else kernel.lines(),
        silent=ending.silent,
    )
    write_report(node.attempt, report)
    if not ending.succeeded:
        print_failures(node.attempt, report)
    return ending.succeeded


def _follow(node: Node) -> Ending:
    """From the data step to the end of the ranks; what goes wrong with the agent itself is in the ending."""
    from train.node.data_step import DataStepError, NodeLostError, StopAskedError, publish

    ending = Ending()
    try:
        check_topology(node)
        _prepare_and_run(node, ending)
    except StopAskedError:
        print("muster: stop asked for before the ranks were started", flush=True)
        ending.succeeded = True
    except DataStepError as error:
        ending.failure = error.failure
    except Terminated:
        ending.failure = _terminated(node)
    except Exception as error:
        ending.failure = describe_failure(error, -1, node.environment.node)
        ending.silent = error.nodes if isinstance(error, NodeLostError) else []
    if node.environment.is_head and not node.attempt.data_ready.exists():
        said = ending.failure.message if ending.failure else ""
        publish(node.attempt.data_ready, **({"error": said} if said else {"stop": True}))
    return ending


def _prepare_and_run(node: Node, ending: Ending) -> None:
    from train.node.data_step import publish, wait_for_marker
    from train.preflight.lookout import Lookout

    environment = node.environment
    with ExitStack() as stack:
        step = None
        if node.plan.script is not None:
            unpack_project(node.folder, environment.scratch)
        elif environment.is_head:
            step = stack.enter_context(_data_step(node))
        lookout = stack.enter_context(Lookout(node.folder, node.plan)) if checks_itself(node) else None
        preload(node.plan, node.program.modules)
        if lookout is not None:
            lookout.wait()
        check_gpus(node.plan)
        start = choose_start(node.plan)
        ending.start = start.mode
        if step is not None:
            step.wait()
    from train.node.meeting import Meeting
    from train.node.port import listen

    if environment.is_head:
        listener = listen(environment.port)
        port = int(listener.getsockname()[1])
        publish(node.attempt.data_ready, port=port)
        _say_started(node, start, port)
    else:
        listener = None
        port = wait_for_marker(node.attempt, node.hosts[0])
    silence_s = node.plan.config.health.silence_s
    meeting = Meeting(environment.head, port, environment.node, node.hosts, MEET_S, silence_s, listener)
    _run_ranks(node, start, meeting, port, ending)


def _data_step(node: Node) -> DataStep:
    from train.node.data_step import DataStep
    from train.node.patient import DataWatch

    watch = DataWatch(node.environment.scratch, node.plan.config.health)
    return DataStep(node.data_argv, node.folder, node.attempt, watch)


def _run_ranks(node: Node, start: Start, meeting: Meeting, port: int, ending: Ending) -> None:
    from train.node.elastic import make_agent, run_to_end
    from train.node.inquest import HangError
    from train.node.watchdog import guarded
    from train.system.sampler import sampler_of

    sampler = sampler_of(node)

    def guard(first_rank: int, watch: Watch) -> Watchdog:
        sampler.start(meeting.own_line())
        return guarded(node, meeting, first_rank, watch)

    for made in (node.attempt.logs, node.attempt.stacks):
        made.mkdir(parents=True, exist_ok=True)
    entrypoint = make_entrypoint(start, node.program, node.folder, node.environment.attempt)
    agent = make_agent(
        entrypoint,
        ranks=node.plan.topology.ranks_per_node,
        meeting=meeting,
        head=node.environment.head,
        port=port,
        scratch=node.environment.scratch,
        guard=guard,
    )
    try:
        with sampler:
            ending.succeeded = run_to_end(agent)
    except HangError as error:
        ending.failure = error.failure or describe_failure(error, -1, node.environment.node)
    finally:
        if agent.watch is not None:
            ending.exits = agent.watch.exits(ending.succeeded)
        ending.met = meeting.met
        if not ending.succeeded:
            meeting.leave(succeeded=False)


def _say_started(node: Node, start: Start, port: int) -> None:
    Journal(node.folder, node.environment.attempt).event(
        "attempt_started",
        nodes=node.environment.nodes,
        world_size=node.environment.nodes * node.plan.topology.ranks_per_node,
        start=start.mode,
        reason=start.reason,
        hosts=node.hosts,
        port=port,
        job=node.environment.job,
    )
    print(f"muster: {start.mode} ({start.reason}); {', '.join(node.hosts)} meet at port {port}", flush=True)


def _handle_signals(node: Node) -> None:
    """SIGTERM ends all at once; in a scheduler's job the first one asks to save, since that is how preemption begins.

    Slurm tells the steps before the batch script. A person's cancel writes STOP first and is not delayed. Ctrl-C
    on a `bash job.sh` by hand writes STOP too, a second one ends all at once.
    """
    warned = node.environment.is_local

    def terminate(_number: int, _frame: FrameType | None) -> None:
        nonlocal warned
        if warned or read_stop(node.folder.stop) is StopReason.cancelled:
            raise Terminated
        warned = True
        if node.environment.is_head:
            ask_to_stop(node.folder.stop, _why_terminated(node, time.time()))

    def interrupt(number: int, frame: FrameType | None) -> None:
        if node.folder.stop.exists():
            raise Terminated
        ask_to_stop(node.folder.stop, StopReason.stopped)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)


def _why_terminated(node: Node, now: float) -> StopReason:
    """A SIGTERM that comes when the job's time is over is the time limit's; before, a preemption begins with it."""
    end = node.environment.end_time
    return StopReason.time_limit if end is not None and now >= end - TIME_IS_UP_S else StopReason.preempted


def _terminated(node: Node) -> Failure:
    return Failure(
        rank=-1,
        node=node.environment.node,
        host=socket.gethostname(),
        time=time.time(),
        cause=Cause.killed,
        message=TERMINATED,
        pid=os.getpid(),
    )
