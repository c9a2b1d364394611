"""Pushing a run's metrics to W&B from this machine: the process that does it, and how long it goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys

from conf.layout import RunFolder
from conf.record import Plan, read_plan
from conf.schema import ContainerRuntime
from launcher.problems import MusterError
from launcher.runs.rundir import require_safe
from launcher.runs.standing import stand
from launcher.send.interrupts import NUMBERS, handled
from launcher.send.scheduler import live_jobs

LOOK_S = 5.0


def push(folder: RunFolder, follow: bool) -> int:
    """Replay the metrics of a run in the Python of its ranks, where W&B's SDK is; the exit status of that.

    Raises:
        MusterError: the run's code is not safe to use, or that Python cannot be started.
    """
    require_safe(folder)
    argv = [_python(read_plan(folder.run_json)), "-I", str(folder.muster_zip), "push", str(folder.path)]
    more = ["--follow"] if follow else []
    try:
        process = subprocess.Popen([*argv, *more], stdin=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        raise MusterError(f"cannot start {argv[0]}: {error.strerror}") from error
    assert process.stdin is not None
    with process.stdin as pipe:
        if not follow:
            pipe.close()

        def end(_number: int) -> None:
            """The first signal ends following with what is there, the next one ends all."""
            process.terminate() if pipe.closed else pipe.close()

        with handled(NUMBERS, end):
            while not _ends(process, LOOK_S):
                if not pipe.closed and not stand(folder, live_jobs([folder])).live:
                    pipe.close()
    return process.returncode


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _python(plan: Plan) -> str:
    """The Python of the ranks where this machine has it, else the one that runs here."""
    cluster = plan.config.cluster
    plain = cluster.container.runtime is ContainerRuntime.none
    return cluster.python if plain and cluster.python and shutil.which(cluster.python) else sys.executable
