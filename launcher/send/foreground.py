"""One attempt of a run in the foreground of this terminal, for `run`, `resume` and `export`."""

from __future__ import annotations

import re
import shlex
from itertools import count
from pathlib import Path

from conf.layout import RunFolder
from conf.outcome import State
from conf.record import Plan
from launcher.problems import MusterError
from launcher.runs.saved import require_loadable
from launcher.runs.standing import Standing, stand
from launcher.send.local import run_local
from launcher.send.scheduler import live_jobs
from launcher.show.ending import report_end, report_export


def refuse_live(standing: Standing) -> None:
    """Refuse a second job on a run that is alive.

    Raises:
        MusterError: naming the job that owns the run.
    """
    if standing.live:
        name = standing.plan.run_id
        said = f"{name} is {standing.state.value} already ({standing.job})"
        raise MusterError(f"{said}; watch: muster status {name}, end: muster stop {name}")


def find_earlier(plan: Plan) -> Standing | None:
    """How the run stands where its folder is there already and nothing of it runs; None for a new run.

    Raises:
        MusterError: it is running.
        ConfigurationError: it has a checkpoint that this plan cannot load.
    """
    folder = RunFolder(Path(plan.run_dir))
    if not folder.run_json.is_file():
        return None
    standing = stand(folder, live_jobs([folder]))
    refuse_live(standing)
    if standing.state is not State.done:
        require_loadable(folder, plan)
    return standing


def once_more(verb: str, words: list[str], plan: Plan) -> str:
    """The command that makes the same run again beside one that is done: with a name that is free."""
    name = plan.run_id.rpartition("-")[0]
    stem = name.rpartition("-")[0] if re.search(r"-\d+$", name) else name
    root = Path(plan.run_dir).parent
    free = next(f"{stem}-{number}" for number in count(2) if not any(root.glob(f"{stem}-{number}-*")))
    kept = [word for word in words if not word.startswith("name=")]
    return shlex.join(["muster", verb, *kept, f"name={free}"])


def run_in_foreground(folder: RunFolder, plan: Plan) -> int:
    """Start the run's own script and stay with it; the exit code of the command. An old STOP goes first."""
    folder.stop.unlink(missing_ok=True)
    total = plan.config.train.max_steps or plan.expected_steps
    end = run_local(folder, ["bash", str(folder.job_sh)], total)
    return report_end(folder, plan, end)


def export_in_foreground(folder: RunFolder, plan: Plan, words: list[str]) -> int:
    """Start the ranks once more to export a checkpoint; the exit code of the command."""
    folder.stop.unlink(missing_ok=True)
    script = ["bash", str(folder.job.body), "local", str(folder.path), "export", *words]
    end = run_local(folder, script, plan.config.train.max_steps or plan.expected_steps)
    return report_export(folder, end)
