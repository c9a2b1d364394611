"""What runs on the nodes: `python -I RUN/code/muster.zip VERB RUN`. Each verb imports what it needs and no more.

agent    a node's part in an attempt: data step, ranks, report
rank     one rank, started by an agent that does not fork
prepare  the data step alone: by the agent of node 0, or by a CPU job before
decide   what comes after an attempt
export   the Hugging Face model of a checkpoint
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from conf.layout import RunFolder

USAGE = "usage: python -I RUN/code/muster.zip agent|rank|prepare|decide RUN, or export RUN [--step N]"


def main(argv: list[str] | None = None) -> int:
    """Run a verb; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) < 2 or arguments[0] not in VERBS:
        print(USAGE, file=sys.stderr)
        return 2
    verb, run, *rest = arguments
    if rest and verb != "export":
        print(USAGE, file=sys.stderr)
        return 2
    return VERBS[verb](RunFolder(Path(run).absolute()), rest)


def _agent(folder: RunFolder, _rest: list[str]) -> int:
    from conf.record import read_plan
    from train.agent import Node, run_agent
    from train.env import read_node_env
    from train.start import Program, own_argv

    environment = read_node_env(os.environ)
    node = Node(
        folder=folder,
        plan=read_plan(folder.run_json),
        environment=environment,
        data_argv=own_argv("prepare", folder.path),
        program=Program(entry=_enter_rank, argv=own_argv("rank", folder.path)),
    )
    good = run_agent(node)
    if environment.is_local:
        from train.decide import run_decision

        good = run_decision(folder, environment.attempt, environment.nodes).good
    return 0 if good else 1


def _enter_rank(folder: RunFolder, attempt: int) -> None:
    from train.rank import main as train_rank

    train_rank(folder, attempt)


def _rank(folder: RunFolder, _rest: list[str]) -> int:
    from train.env import read_node_env
    from train.process import leave_process, run_rank

    run_rank(_enter_rank, folder, read_node_env(os.environ).attempt, agent_pid=os.getppid())
    leave_process(0)


def _prepare(folder: RunFolder, _rest: list[str]) -> int:
    from train.data_step import run_data_step
    from train.env import read_attempt

    return run_data_step(folder, read_attempt(os.environ))


def _decide(folder: RunFolder, _rest: list[str]) -> int:
    from train.decide import run_decision
    from train.env import read_node_env

    environment = read_node_env(os.environ)
    run_decision(folder, environment.attempt, environment.nodes)
    return 0


VERBS = {"agent": _agent, "rank": _rank, "prepare": _prepare, "decide": _decide}

if __name__ == "__main__":
    sys.exit(main())
