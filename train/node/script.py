"""A person's own program (`task=script`): its files on the node, its process, how an attempt of it ended.

The program knows nothing of Muster but environment variables and files (docs/scripts.md): it looks for STOP, appends to
metrics.jsonl and events.jsonl where it likes, and may say in the attempt's outcome.json how it ended. Without that it
ended well if all its ranks did.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from conf.files import read_objects
from conf.layout import Attempt, RunFolder
from conf.outcome import AgentReport, Outcome, State, StopReason
from conf.record import Script, read_plan
from train.node.env import NodeEnv, read_node_env, read_rank_env
from train.node.process import begin_rank, set_process_name
from train.node.recorder import remember_collectives
from train.node.stacks import stacks_file
from train.pulse import PULSE, SCRIPT, pulse_file


def unpack_project(folder: RunFolder, scratch: Path) -> None:
    """Lay the snapshot of the project out in the node's scratch folder, before its ranks start."""
    target = project_of(scratch)
    shutil.rmtree(target, ignore_errors=True)
    with zipfile.ZipFile(folder.project_zip) as archive:
        archive.extractall(target)


def project_of(scratch: Path) -> Path:
    """Where the project lies on a node."""
    return scratch / "project"


def become_script(folder: RunFolder, script: Script) -> NoReturn:
    """Be the program from here on, as the rank that torch's environment variables name, with the log of one."""
    rank, attempt = read_rank_env(os.environ), folder.attempt(read_node_env(os.environ).attempt)
    set_process_name(f"rank{rank.rank}")
    begin_rank(attempt.rank_log(rank.node, rank.rank), os.getppid(), stacks_file(rank.scratch, rank.local_rank))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the agent asks for stacks with it, and the program would die of it
    remember_collectives(os.environ, attempt.nccl_flights(rank.node))
    PULSE.attach(pulse_file(rank.scratch, rank.local_rank))
    PULSE.enter(SCRIPT)
    project = project_of(rank.scratch)
    os.chdir(project / script.folder)
    environment = {**os.environ, **variables(folder, attempt)}
    os.execve(sys.executable, [sys.executable, "-u", str(project / script.path), *script.argv], environment)


def variables(folder: RunFolder, attempt: Attempt) -> dict[str, str]:
    """What the program is told beside the variables of `torchrun`: the files that it may read and write."""
    return {
        "MUSTER_STOP": str(folder.stop),
        "MUSTER_METRICS": str(folder.metrics),
        "MUSTER_EVENTS": str(folder.events),
        "MUSTER_CHECKPOINTS": str(folder.checkpoints),
        "MUSTER_OUTCOME": str(attempt.outcome),
    }


def script_outcome(
    folder: RunFolder, environment: NodeEnv, reports: Sequence[AgentReport], stop: StopReason | None
) -> Outcome | None:
    """How the attempt ended: in the program's own words, or well where all its ranks did; else None."""
    attempt = folder.attempt(environment.attempt)
    said = _said(attempt.outcome)
    step = said.get("step", newest_steps(folder).get(environment.attempt, 0))
    known = {state.value: state for state in State}
    if said.get("state") in known:
        return Outcome(
            state=known[said["state"]],
            reason=str(said.get("reason", "as the program says")),
            step=step if isinstance(step, int) else 0,
            attempt=environment.attempt,
            time=time.time(),
        )
    ended = len(reports) == environment.nodes and all(
        report.failure is None and report.exits and all(one.exit_status == 0 for one in report.exits)
        for report in reports
    )
    if not ended:
        return None
    state = State.done if stop is None else State(stop.value)
    reason = "the program ended" if stop is None else f"the program ended after {stop.value} was asked for"
    return Outcome(state, reason, step if isinstance(step, int) else 0, environment.attempt, time.time())


def is_script(folder: RunFolder) -> bool:
    """Whether a run is a person's own program. What comes after an attempt is decided without its plan as well."""
    try:
        return read_plan(folder.run_json).script is not None
    except (OSError, ValueError):
        return False


def newest_steps(folder: RunFolder) -> dict[int, int]:
    """The newest step by attempt that the program wrote a metric of: what its progress is judged by."""
    steps: dict[int, int] = {}
    for line in read_objects(folder.metrics):
        attempt, step = line.get("attempt"), line.get("step")
        if isinstance(attempt, int) and isinstance(step, int):
            steps[attempt] = max(step, steps.get(attempt, 0))
    return steps


def _said(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
