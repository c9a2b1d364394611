"""One attempt of a run in the foreground of this terminal, for `run` and `resume`."""

from __future__ import annotations

from conf.layout import RunFolder
from conf.record import Plan
from launcher.ending import report_end
from launcher.local import run_local
from launcher.problems import MusterError
from launcher.standing import Standing


def refuse_live(standing: Standing) -> None:
    """Refuse a second job on a run that is alive.

    Raises:
        MusterError: naming the job that owns the run.
    """
    if standing.live:
        name = standing.plan.run_id
        said = f"{name} is {standing.state.value} already ({standing.job})"
        raise MusterError(f"{said}; watch: muster status {name}, end: muster stop {name}")


def run_in_foreground(folder: RunFolder, plan: Plan) -> int:
    """Start the run's own script and stay with it; the exit code of the command."""
    total = plan.config.train.max_steps or plan.expected_steps
    end = run_local(folder, ["bash", str(folder.job_sh)], total)
    return report_end(folder, plan, end)
