"""Muster's agent with ranks that only meet: `ready_agent.py RUN FILE` for the agent, `… rank RUN FILE` for a rank."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from benchmarks.peers.ready import MODULES, meet
from conf.layout import RunFolder
from conf.record import read_plan
from train.node.agent import run_agent
from train.node.env import read_node_env
from train.node.node import Node
from train.node.process import leave_process, run_rank
from train.node.start import TRAIN, Program


def main() -> int:
    *rank, run, file = sys.argv[1:]
    folder = RunFolder(Path(run))
    environment = read_node_env(os.environ)

    def entry(_folder: RunFolder, _attempt: int) -> None:
        for module in MODULES:
            importlib.import_module(module)
        meet(Path(file))

    if rank:
        run_rank(entry, folder, environment.attempt, agent_pid=os.getppid())
        leave_process(0)
    argv = [sys.executable, "-m", "benchmarks.peers.ready_agent", "rank", run, file]
    program = Program(purpose=TRAIN, entry=entry, argv=argv, modules=MODULES)
    node = Node(folder, read_plan(folder.run_json), environment, [sys.executable, "-c", ""], program)
    return 0 if run_agent(node) else 1


if __name__ == "__main__":
    sys.exit(main())
