"""Small programs that stand in for training, so that a test can break a rank in one certain way.

`python -m tests.dist.rank_programs agent|rank RUN PROGRAM` is what `train.__main__` does with `train.rank`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from conf.files import read_objects
from conf.layout import RunFolder
from conf.record import read_plan
from train.node.agent import run_agent
from train.node.env import read_node_env
from train.node.node import Node
from train.node.process import Entry, leave_process, run_rank
from train.node.start import TRAIN, Program
from train.pulse import PULSE


def _meet(folder: RunFolder) -> int:
    """Join the gloo group, add up the ranks' numbers, and leave a mark with the process id."""
    import torch
    from torch import distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor(float(dist.get_rank()))
    dist.all_reduce(total)
    print(f"sum of ranks {int(total)}")
    (folder.path / f"met-{dist.get_rank()}").write_text(str(os.getpid()))
    return dist.get_rank()


def _wait_in_collective() -> None:
    import torch
    from torch import distributed as dist

    dist.all_reduce(torch.zeros(1))


def fine(folder: RunFolder, attempt: int) -> None:
    from torch import distributed as dist

    _meet(folder)
    sys.stderr.write("a word on standard error\n")
    dist.destroy_process_group()


def watched(folder: RunFolder, attempt: int) -> None:
    """Ends once both nodes were measured."""
    from torch import distributed as dist

    deadline = time.monotonic() + 300
    if _meet(folder) == 0:
        while not any(line["nodes/count"] == 2 for line in read_objects(folder.system)):
            if time.monotonic() > deadline:
                raise TimeoutError("node 1 was not heard")
            time.sleep(0.1)
    _wait_in_collective()
    dist.destroy_process_group()


def raises(folder: RunFolder, attempt: int) -> None:
    if _meet(folder) == 1:
        raise ValueError("the loss went missing")
    _wait_in_collective()


def killed(folder: RunFolder, attempt: int) -> None:
    if _meet(folder) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _wait_in_collective()


def segfault(folder: RunFolder, attempt: int) -> None:
    if _meet(folder) == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    _wait_in_collective()


def exits(folder: RunFolder, attempt: int) -> None:
    if _meet(folder) == 1:
        os._exit(3)
    _wait_in_collective()


def deaf(folder: RunFolder, attempt: int) -> None:
    """Rank 1 fails; rank 0 does not listen to SIGTERM and does not look at its peers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _meet(folder) == 1:
        raise ValueError("the loss went missing")
    time.sleep(600)


def lasts(folder: RunFolder, attempt: int) -> None:
    """Runs until it is ended."""
    _meet(folder)
    time.sleep(600)


def cut_off(folder: RunFolder, attempt: int) -> None:
    """Rank 3 is killed; the others look at no peer, as ranks in an NCCL collective do not."""
    if _meet(folder) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def sleeps(folder: RunFolder, attempt: int) -> None:
    """Three steps; then the last rank sleeps in one, and the others wait for it."""
    own = _step_to(_meet(folder), 3)
    if own == int(os.environ["WORLD_SIZE"]) - 1:
        time.sleep(600)
    _wait_in_collective()


def steps_on(folder: RunFolder, attempt: int) -> None:
    """Steps until somebody writes the file `enough`."""
    rank, number = _meet(folder), 0
    while not (folder.path / "enough").exists():
        number += 1
        _step_to(rank, number, number)
        time.sleep(0.05)


def works_alone(folder: RunFolder, attempt: int) -> None:
    """Rank 0 works for long, giving signs; the others wait for it."""
    rank = _step_to(_meet(folder), 1)
    for _ in range(100 if rank == 0 else 0):
        PULSE.beat()
        time.sleep(0.1)
    _wait_in_collective()


def _step_to(rank: int, last: int, first: int = 1) -> int:
    PULSE.enter("train")
    for number in range(first, last + 1):
        PULSE.step(number)
    return rank


PROGRAMS: dict[str, Entry] = {
    entry.__name__: entry for entry in (fine, watched, raises, killed, segfault, exits, deaf, lasts, cut_off, sleeps, steps_on, works_alone)
}


def main() -> int:
    verb, run, name, data = sys.argv[1:]
    folder = RunFolder(Path(run))
    environment = read_node_env(os.environ)
    if verb == "rank":
        run_rank(PROGRAMS[name], folder, environment.attempt, agent_pid=os.getppid())
        leave_process(0)
    node = Node(
        folder=folder,
        plan=read_plan(folder.run_json),
        environment=environment,
        data_argv=[sys.executable, "-c", data],
        program=Program(
            purpose=TRAIN,
            entry=PROGRAMS[name],
            argv=[sys.executable, "-m", "tests.dist.rank_programs", "rank", run, name, data],
            modules=("torch",),
        ),
    )
    return 0 if run_agent(node) else 1


if __name__ == "__main__":
    sys.exit(main())
