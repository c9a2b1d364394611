"""Seconds until all ranks of a node have imported everything and met: the node agent against torchrun, 8 ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Report, interleave
from conf.layout import RunFolder
from conf.record import Batch, Device, Layout, Plan, Topology, encode_plan
from conf.schema import RunConfig

TITLE = "Ranks of one node ready: imports of torch, deepspeed, transformers and datasets, then a barrier; 8 ranks"
RANKS = 8
PEERS = Path(__file__).parent / "peers"


def main(runs: int) -> None:
    comparison = interleave(
        {
            "muster, fork": lambda: agent("fork"),
            "muster, exec": lambda: agent("exec"),
            "torchrun": torchrun,
        },
        runs,
    )
    Report("ranks_ready", TITLE, comparison, "muster, fork", {"torchrun": "≤ 0.25"}).write()


def agent(start: str) -> float:
    """Seconds from the start of a node's agent to the barrier of its ranks."""
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work) / "run")
        attempt = folder.attempt(0)
        for path in (attempt.logs, attempt.failures, attempt.agent_reports):
            path.mkdir(parents=True)
        plan = Plan(
            run_id="ready-00000000",
            run_dir=str(folder.path),
            config=RunConfig(),
            topology=Topology(1, RANKS, Device.cpu, start, 1),
            layouts={RANKS: Layout(Batch(RANKS, RANKS, 1, 1), {})},
            model_type="llama",
            parameters=None,
            packing="none",
            export_at_end=False,
            expected_steps=None,
        )
        folder.run_json.write_text(encode_plan(plan))
        names = {
            "MUSTER_RUN": str(folder.path),
            "MUSTER_ATTEMPT": "0",
            "MUSTER_NODES": "1",
            "MUSTER_NODE_RANK": "0",
            "MUSTER_HEAD": "127.0.0.1",
            "MUSTER_PORT": "15999",
            "MUSTER_SCRATCH": work,
            "MUSTER_JOB": "local:0",
            "MUSTER_HOSTS": "localhost",
        }
        ready = Path(work) / "ready"
        return _until(
            ready, [sys.executable, "-m", "benchmarks.peers.ready_agent", str(folder.path), str(ready)], names
        )


def torchrun() -> float:
    """The same with torchrun and a script that imports the same."""
    with tempfile.TemporaryDirectory() as work:
        ready = Path(work) / "ready"
        launch = [str(Path(sys.executable).parent / "torchrun"), "--standalone", f"--nproc-per-node={RANKS}"]
        return _until(ready, [*launch, str(PEERS / "ready.py"), str(ready)], {})


def _until(ready: Path, command: list[str], names: dict[str, str]) -> float:
    """Seconds from the start of `command` to the time that rank 0 wrote after the barrier."""
    env = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"} | names
    started = time.time()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not ready.exists():
        raise RuntimeError(f"{command} was never ready:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return float(ready.read_text()) - started
