"""Sweeps: how long a person waits until 100 and 1,000 points are planned, and until 100 are in Slurm's queue.

The second part needs `muster devcluster up`, and for the peer a folder in $MUSTER_BENCH_PEERS with
hydra-submitit-launcher (`pip install --no-deps --target FOLDER hydra-submitit-launcher submitit cloudpickle`). Jobs are
sent on hold and cancelled. The peer stays until its jobs have ended, so its time is taken until its last sbatch has
answered.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Report, interleave, seconds_of
from slurm import devcluster

TITLE = "Sweeps: seconds until all points are planned, or in the queue"
POINTS = 100
MUSTER = str(Path(sys.executable).parent / "muster")
PEER = Path(__file__).parent / "peers" / "hydra_submitit.py"
WORDS = ["-m", "experiment=demo", "tracking=none"]
SHIM = """#!/bin/sh
said=$({real} "$@"); status=$?
echo "$said"
echo "$(date +%s.%N) $said" >> {log}
exit $status
"""


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as work:
        folder = Path(work)
        measured: dict[str, Any] = {
            f"muster plan -m, {count:,} points": lambda count=count: _planned(folder, count) for count in (POINTS, 1000)
        }
        notes: dict[str, Any] = {}
        conf = devcluster.find()
        if conf is None:
            notes["not measured"] = "submitting: there is no devcluster"
        else:
            queue = Queue(folder, str(conf))
            measured[f"muster submit -m, {POINTS} points"] = queue.muster
            if os.environ.get("MUSTER_BENCH_PEERS"):
                measured[f"hydra-submitit-launcher, {POINTS} points"] = queue.peer
            else:
                notes["peer not measured"] = "MUSTER_BENCH_PEERS names no folder with hydra-submitit-launcher"
        comparison = interleave(measured, runs, warmup=0)
        if conf is not None:
            notes |= {f"sbatch commands of {name}": f"{calls}" for name, calls in queue.calls.items()}
    ours = next((name for name in measured if "submit -m" in name), next(iter(measured)))
    targets = {"muster plan -m, 1,000 points": "≤ 10 s"}
    Report("sweep", TITLE, comparison, ours, targets, notes).write()


def _planned(folder: Path, count: int) -> float:
    return seconds_of([MUSTER, "plan", *WORDS, f"train.seed=range(0,{count})"], cwd=folder)


class Queue:
    """Submissions to a devcluster, with its sbatch commands counted."""

    def __init__(self, folder: Path, conf: str) -> None:
        self.folder = folder
        self.calls: dict[str, int] = {}
        self.log = folder / "sbatch.log"
        shim = folder / "bin" / "sbatch"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(real=shutil.which("sbatch"), log=self.log))
        shim.chmod(0o755)
        path = f"{shim.parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "SLURM_CONF": conf, "MUSTER_SQUEUE_AGE_S": "1"}

    def muster(self) -> float:
        """Seconds of `muster submit -m`, which returns once all is sent."""
        words = [*WORDS, "cluster=devcluster", "cluster.sbatch.hold=true", f"train.seed=range(0,{POINTS})"]
        started, work = self._begin("muster")
        subprocess.run(
            [MUSTER, "submit", *words], cwd=work, env=self.environment, check=True, stdout=subprocess.DEVNULL
        )
        taken = time.time() - started
        self._end("muster")
        return taken

    def peer(self) -> float:
        """Seconds until the peer's last sbatch has answered."""
        words = [
            "-m",
            "hydra/launcher=submitit_slurm",
            f"+seed=range(0,{POINTS})",
            f"hydra.sweep.dir={self.folder}/peer",
        ]
        words += ["hydra.launcher.timeout_min=10", "+hydra.launcher.additional_parameters.hold=true"]
        environment = {**self.environment, "PYTHONPATH": os.environ["MUSTER_BENCH_PEERS"]}
        started, work = self._begin("hydra-submitit-launcher")
        argv = [sys.executable, str(PEER), *words]
        with subprocess.Popen(argv, cwd=work, env=environment, stdout=subprocess.DEVNULL) as process:
            while not self._answered() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(2)  # whether more follow
            taken = self._answered()[-1] - started if self._answered() else float("nan")
            self._end("hydra-submitit-launcher")
            process.kill()
        return taken

    def _begin(self, name: str) -> tuple[float, Path]:
        self.log.unlink(missing_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        return time.time(), work

    def _answered(self) -> list[float]:
        return [float(line.split()[0]) for line in self._lines()]

    def _lines(self) -> list[str]:
        """A line for each sbatch that has answered: when, and what it said."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def _end(self, name: str) -> None:
        self.calls[name] = len(self._answered())
        jobs = [line.split()[-1] for line in self._lines() if line.split()[-1].isdigit()]
        subprocess.run(["scancel", *jobs], env=self.environment, check=False)
